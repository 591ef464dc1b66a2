from django.apps import AppConfig


class ServingConfig(AppConfig):
    name = "deployments.serving"
    verbose_name = "Serving"

    def ready(self) -> None:
        # Registers planning's ways out with the explanations, which do not know it.
        import deployments.serving.actions  # noqa: F401
