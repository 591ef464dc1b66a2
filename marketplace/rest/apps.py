from django.apps import AppConfig


class RestConfig(AppConfig):
    name = "marketplace.rest"
    verbose_name = "REST"
