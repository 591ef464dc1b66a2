"""The Celery application: carries doorbells and periodic work, never decisions (DESIGN: rule 1)."""

import os
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from celery.bootsteps import StartStopStep
from celery.worker import WorkController

from marketplace.config import heartbeat

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
app = Celery("marketplace")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Heartbeat(StartStopStep):
    """The worker's: on the timer of its event loop, so that it ends when the loop hangs."""

    requires = ("celery.worker.components:Timer",)

    def start(self, parent: WorkController) -> None:
        heartbeat.beat()
        # Made before this, as `requires` says; the stubs do not know the method.
        parent.timer.call_repeatedly(heartbeat.EVERY_SECONDS, heartbeat.beat)  # type: ignore[union-attr]


app.steps["worker"].add(Heartbeat)


class Scheduler(PersistentScheduler):
    """Beat's: each turn of its loop is a sign of life."""

    def tick(self, *args: Any, **options: Any) -> float:
        heartbeat.beat()
        return float(super().tick(*args, **options))
