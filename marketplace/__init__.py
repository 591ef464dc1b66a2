"""The marketplace: what is offered, to whom, for how much. Never imports `deployments` or `runtimes`."""

from marketplace.config.celery import app as celery_app

__all__ = ["celery_app"]
