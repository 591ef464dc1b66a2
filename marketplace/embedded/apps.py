from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "marketplace.embedded"
    verbose_name = "Embedded services"
