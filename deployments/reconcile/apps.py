from django.apps import AppConfig


class ReconcileConfig(AppConfig):
    name = "deployments.reconcile"
    verbose_name = "Reconciler"
