from django.apps import AppConfig


class TuningConfig(AppConfig):
    name = "deployments.tuning"
    verbose_name = "Fine-tuning"
