from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "deployments.gateway"
    verbose_name = "Gateway"
