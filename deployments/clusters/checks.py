"""System checks of the clusters' rows: what can be seen to be wrong before a cluster is called.

They read the database, so they run with `manage.py check --database default`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.utils import DatabaseError

from deployments.clusters.errors import ClusterMisconfigured, ClusterRejected
from deployments.clusters.registry import open_cluster, site_of
from marketplace.hardware.models import Cluster

HINT = "Mend the configuration of the cluster in the admin, under Hardware."


@register(Tags.database)
def check_clusters(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Every cluster that takes workloads can be opened: its files are there and name a cluster."""
    if "default" not in (databases or ()):
        return []
    try:
        if Cluster._meta.db_table not in connections["default"].introspection.table_names():
            return []  # not migrated yet
        rows = list(Cluster.objects.filter(enabled=True).order_by("slug"))
    except DatabaseError:
        return []  # config.E005 says so
    return [problem for row in rows if (problem := _problem_of(row)) is not None]


def _problem_of(row: Cluster) -> CheckMessage | None:
    try:
        site_of(row)
        open_cluster(row)
    except (ClusterMisconfigured, ClusterRejected) as error:
        return Error(f"Cluster {row.slug} cannot be used: {error}.", hint=HINT, obj=row, id="clusters.E001")
    return None
