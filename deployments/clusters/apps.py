from django.apps import AppConfig

from deployments.clusters.configuration import configuration_problem
from marketplace.hardware.configurations import register_check


class ClustersConfig(AppConfig):
    name = "deployments.clusters"
    verbose_name = "Clusters"

    def ready(self) -> None:
        register_check(configuration_problem)
