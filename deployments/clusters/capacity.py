"""What each cluster last said of its nodes, remembered so that a plan needs no cluster call.

The sweep asks every cluster once a round and remembers the answer here; plans, which are made inside
requests and transactions, only read it. An answer that is too old counts as none, and so does a cache that
does not answer: a plan then says that free capacity is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.core.cache import cache
from redis.exceptions import RedisError

from deployments.clusters.port import NodeCapacity

log = logging.getLogger(__name__)

FRESH_SECONDS = 60


def remember_nodes(cluster: str, nodes: Sequence[NodeCapacity]) -> None:
    """Keeps the nodes of the cluster with this slug for the next minute."""
    cache.set(_key(cluster), list(nodes), timeout=FRESH_SECONDS)


def known_nodes(cluster: str) -> list[NodeCapacity] | None:
    """The nodes of a cluster as of the last sweep; None when no sweep reached it within a minute."""
    try:
        nodes: list[NodeCapacity] | None = cache.get(_key(cluster))
    except RedisError as error:
        log.warning("The cache does not answer, so the nodes of %s are not known: %s", cluster, error)
        return None
    return nodes


def _key(cluster: str) -> str:
    return f"clusters:nodes:{cluster}"
