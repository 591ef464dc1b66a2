from django.apps import AppConfig


class ServingConfig(AppConfig):
    name = "deployments.serving"
    verbose_name = "Serving"
