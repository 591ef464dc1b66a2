from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    name = "deployments.workspaces"
    verbose_name = "Workspaces"
