from importlib import import_module

from django.apps import AppConfig

from deployments.clusters.configuration import configuration_problem
from deployments.clusters.kubernetes.kubeconfig import kubeconfig_problem
from marketplace.hardware.configurations import register_check


class ClustersConfig(AppConfig):
    name = "deployments.clusters"
    verbose_name = "Clusters"

    def ready(self) -> None:
        import_module("deployments.clusters.checks")  # which registers them; it needs the models
        register_check(configuration_problem)
        register_check(kubeconfig_problem)
