"""Opens the cluster that a row describes, by its kind: the only place that knows which kinds there are.

An implementation is imported when its first cluster is opened: both bring the official client along, which
takes 0.4 s and 40 MB, and most processes never need it. A worker, which always does, imports them when it
begins: `import_implementations`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings

from deployments.clusters.errors import ClusterRejected
from deployments.clusters.models import identity_of_database
from deployments.clusters.port import Cluster
from deployments.clusters.site import Site, SiteError
from marketplace.hardware import models

_KUBERNETES = "deployments.clusters.kubernetes.cluster"
_LOCAL = "deployments.clusters.local.cluster"


def import_implementations() -> None:
    """Imports every implementation now, so that opening a cluster waits for none."""
    for module in (_KUBERNETES, _LOCAL):
        import_module(module)


def _open_kubernetes(name: str, configuration: Mapping[str, Any]) -> Cluster:
    module = import_module(_KUBERNETES)
    cluster: Cluster = module.KubernetesCluster(
        name=name, configuration=configuration, database=identity_of_database()
    )
    return cluster


def _open_local(name: str, configuration: Mapping[str, Any]) -> Cluster:
    """`root` in the configuration names another folder than the installation's own."""
    module = import_module(_LOCAL)
    root = Path(configuration.get("root") or settings.MARKETPLACE_HOME.cluster)
    cluster: Cluster = module.LocalCluster(name=name, root=root)
    return cluster


KINDS: Mapping[str, Callable[[str, Mapping[str, Any]], Cluster]] = {
    models.ClusterKind.LOCAL: _open_local,
    models.ClusterKind.KUBERNETES: _open_kubernetes,
}


def open_cluster(row: models.Cluster) -> Cluster:
    """The cluster of the row; one instance for the same configuration.

    Raises ClusterRejected when nothing here speaks to clusters of that kind, ClusterMisconfigured when the
    configuration cannot be used.
    """
    return _open(row.slug, row.kind, json.dumps(row.configuration, sort_keys=True))


def site_of(row: models.Cluster) -> Site:
    """What manifests need to know of the cluster. Raises ClusterRejected when its configuration is wrong."""
    return _site(row.slug, row.kind, json.dumps(row.configuration, sort_keys=True))


@lru_cache
def _site(slug: str, kind: str, configuration: str) -> Site:
    try:
        return Site.of(kind, json.loads(configuration))
    except SiteError as error:
        raise ClusterRejected(
            f"cluster {slug}: its configuration is wrong: {error}", field=error.field
        ) from error


@lru_cache
def _open(slug: str, kind: str, configuration: str) -> Cluster:
    if kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ClusterRejected(
            f"cluster {slug}: nothing opens kind {kind!r}; use one of: {known}", field="kind"
        )
    return KINDS[kind](slug, json.loads(configuration))
