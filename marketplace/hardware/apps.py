from django.apps import AppConfig


class HardwareConfig(AppConfig):
    name = "marketplace.hardware"
    verbose_name = "Hardware"
