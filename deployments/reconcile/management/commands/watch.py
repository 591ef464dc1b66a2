"""`manage.py watch`: rings for changes on all enabled clusters, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand
from django.db import OperationalError, close_old_connections

from deployments.clusters.registry import open_cluster
from deployments.reconcile.tasks import ring
from deployments.reconcile.watch import Watchers
from marketplace.config import heartbeat
from marketplace.config.signals import set_on
from marketplace.hardware.models import Cluster

NEW_CLUSTERS_SECONDS = 15.0
"""How soon a cluster that was added is watched."""


class Command(BaseCommand):
    help = "Watches all enabled clusters and asks for a look at whatever changes."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        set_on(stop, signal.SIGTERM, signal.SIGINT)
        watchers = Watchers(ring=partial(ring, patient=True), stop=stop)
        while not stop.is_set():
            heartbeat.beat()
            try:
                close_old_connections()
                for cluster in Cluster.objects.filter(enabled=True).select_related("region"):
                    watchers.cover(cluster.slug, partial(open_cluster, cluster))
            except OperationalError as error:
                self.stderr.write(f"The database does not answer, trying again: {error}")
            stop.wait(NEW_CLUSTERS_SECONDS)
        watchers.join(seconds=5)
