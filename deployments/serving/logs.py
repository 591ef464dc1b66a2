"""What containers printed, read for people: in the namespaces of their workload, and by few at once.

A node that has just been lost keeps a reader waiting until the cluster gives up. Readers beyond the first few
are turned away at once, so that logs never take all the threads that answer requests.
"""

from __future__ import annotations

import threading

from deployments.clusters.errors import ClusterUnreachable
from deployments.clusters.port import LogLine
from deployments.clusters.registry import open_cluster
from deployments.reconcile.registry import kind_of
from deployments.serving.workload import Workload

READERS = 4
"""At once in one process: half of the threads that a web process answers requests with."""
BUSY_SECONDS = 2.0

_room = threading.BoundedSemaphore(READERS)


class LogsBusy(ClusterUnreachable):
    """As many logs are being read as may be. Try again in `retry_after` seconds."""


def read_log(
    workload: Workload,
    *,
    replica: str | None = None,
    container: str = "",
    after: int = 0,
    limit: int,
    tail: bool = False,
) -> list[LogLine]:
    """Lines of a replica (uid; the newest one if None), as `deployments.clusters.port.Cluster.logs` has them.

    Raises ClusterError; LogsBusy without having asked the cluster.
    """
    namespaces = kind_of(workload.public_id).namespaces([workload])[workload.public_id]
    if not _room.acquire(blocking=False):
        raise LogsBusy(f"{READERS} logs are being read already", retry_after=BUSY_SECONDS)
    try:
        return open_cluster(workload.cluster).logs(
            workload.public_id,
            namespaces=namespaces,
            pod=replica,
            container=container,
            after=after,
            limit=limit,
            tail=tail,
        )
    finally:
        _room.release()
