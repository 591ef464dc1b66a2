from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "marketplace.config"
    verbose_name = "Configuration"
