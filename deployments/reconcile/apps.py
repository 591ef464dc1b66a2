from django.apps import AppConfig


class ReconcileConfig(AppConfig):
    name = "deployments.reconcile"
    verbose_name = "Reconciler"

    def ready(self) -> None:
        # Models can be imported from here on.
        from deployments.reconcile.spending import lifetimes, spending
        from marketplace.billing.live import register, register_lifetimes

        register(spending)
        register_lifetimes(lifetimes)
