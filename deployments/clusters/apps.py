from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "deployments.clusters"
    verbose_name = "Clusters"
