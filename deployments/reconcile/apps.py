from django.apps import AppConfig


class ReconcileConfig(AppConfig):
    name = "deployments.reconcile"
    verbose_name = "Reconciler"

    def ready(self) -> None:
        # Models can be imported from here on.
        from deployments.reconcile.spending import spending
        from marketplace.billing.live import register

        register(spending)
