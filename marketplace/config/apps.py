from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "marketplace.config"
    verbose_name = "Configuration"

    def ready(self) -> None:
        from marketplace.config import checks  # noqa: F401  # registers them
