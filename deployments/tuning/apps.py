from django.apps import AppConfig


class TuningConfig(AppConfig):
    name = "deployments.tuning"
    verbose_name = "Fine-tuning"

    def ready(self) -> None:
        # Models can be imported from here on.
        from deployments.tuning.uses import uses_of
        from marketplace.catalog.removal import register_uses

        register_uses(uses_of)
