"""Rings as soon as a cluster says that something has changed, so that customers need not wait for the sweep.

One thread per cluster. A watch may miss changes and may end at any time; neither matters.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from deployments.clusters.errors import ClusterError
from deployments.clusters.port import Cluster

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


def watch_cluster(
    open_cluster: Callable[[], Cluster],
    *,
    ring: Callable[[str], object],
    stop: threading.Event,
    first_pause: float = FIRST_PAUSE_SECONDS,
) -> None:
    """Rings for every change on a cluster until `stop` is set. Cut off, it connects again, ever slower."""
    pause = first_pause
    while not stop.is_set():
        try:
            cluster = open_cluster()
            for resource in cluster.watch(stop):
                pause = first_pause
                ring(resource)
        except ClusterError as error:
            log.warning("watch was cut off, next try in %.0f s: %s", pause, error)
        except Exception:
            # Also the broker's: a bell that cannot be rung now is the sweep's.
            log.exception("watch was cut off, next try in %.0f s", pause)
        stop.wait(pause * random.uniform(0.5, 1))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class Watchers:
    """The threads that watch, one per cluster."""

    def __init__(self, *, ring: Callable[[str], object], stop: threading.Event) -> None:
        self._ring = ring
        self._stop = stop
        self._threads: dict[str, threading.Thread] = {}

    def cover(self, name: str, open_cluster: Callable[[], Cluster]) -> None:
        """Watches the cluster `name`, unless it is watched already."""
        if name in self._threads and self._threads[name].is_alive():
            return
        log.info("watching cluster %s", name)
        thread = threading.Thread(
            target=watch_cluster,
            args=(open_cluster,),
            kwargs={"ring": self._ring, "stop": self._stop},
            name=f"watch {name}",
            daemon=True,
        )
        thread.start()
        self._threads[name] = thread

    def join(self, *, seconds: float) -> None:
        """Waits until the threads have ended, after `stop` was set."""
        for thread in self._threads.values():
            thread.join(timeout=seconds)
