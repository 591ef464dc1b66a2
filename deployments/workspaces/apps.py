from importlib import import_module

from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    name = "deployments.workspaces"
    verbose_name = "Workspaces"

    def ready(self) -> None:
        import_module("deployments.workspaces.checks")  # registers them
