from django.apps import AppConfig


class RestConfig(AppConfig):
    name = "marketplace.rest"
    verbose_name = "REST"

    def ready(self) -> None:
        # drf-spectacular finds its extensions by their classes being there.
        import marketplace.rest.schema  # noqa: F401
