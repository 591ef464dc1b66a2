"""What each cluster last said of its nodes, remembered so that a plan needs no cluster call.

The sweep asks every cluster once a round and remembers the answer here; plans, which are made inside
requests and transactions, only read it. An answer that is too old counts as none, and so does a cache that
does not answer: a plan then says that free capacity is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from django.core.cache import cache
from redis.exceptions import RedisError

from deployments.clusters.port import NodeCapacity

log = logging.getLogger(__name__)

FRESH_SECONDS = 60


def remember_nodes(cluster: str, nodes: Sequence[NodeCapacity]) -> None:
    """Keeps the nodes of the cluster with this slug for the next minute."""
    cache.set(_key(cluster), list(nodes), timeout=FRESH_SECONDS)


def known_nodes_of(clusters: Iterable[str]) -> dict[str, list[NodeCapacity] | None]:
    """Slug -> the nodes as of the last sweep; None of a cluster that no sweep reached within a minute."""
    slugs = list(clusters)
    try:
        found = cache.get_many([_key(slug) for slug in slugs])
    except RedisError as error:
        log.warning(
            "The cache does not answer, so the nodes of %s are not known: %s", ", ".join(slugs), error
        )
        found = {}
    return {slug: found.get(_key(slug)) for slug in slugs}


def _key(cluster: str) -> str:
    return f"clusters:nodes:{cluster}"
