"""`manage.py localcluster`: the node of the local cluster. Uses no database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deployments.clusters.errors import ClusterConflict
from deployments.clusters.local.containers import Places
from deployments.clusters.local.daemon import Daemon
from deployments.clusters.local.machine import describe_machine
from deployments.clusters.local.store import Store


class Command(BaseCommand):
    help = "Runs the node of the local cluster: containers as processes of this machine, until SIGTERM."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        options = (
            ("--root", Path(settings.MARKETPLACE_HOME.cluster), Path, "folder of the cluster's state"),
            ("--cpu", settings.LOCAL_CLUSTER_CPU, str, "CPUs it offers, as 2 or 1500m; empty: four per core"),
            ("--memory", settings.LOCAL_CLUSTER_MEMORY, str, "memory it offers, as 16Gi; empty: all"),
        )
        for name, default, kind, text in options:
            parser.add_argument(name, type=kind, default=default, help=text)

    def handle(self, *, root: Path, cpu: str, memory: str, **options: Any) -> None:
        images = settings.LOCAL_CLUSTER_IMAGES
        places = Places(storage=settings.STORAGE_ROOT, checkout=settings.BASE_DIR, images=images)
        try:
            node = describe_machine(cpu=cpu, memory=memory)
            asyncio.run(Daemon(store=Store(root.resolve()), places=places, node=node).run())
        except (ClusterConflict, ValueError) as error:
            raise CommandError(str(error)) from error
