"""What each cluster last said of its nodes, remembered so that a plan needs no cluster call.

The sweep asks every cluster once a round and remembers the answer here; plans, which are made inside
requests and transactions, only read it. An answer that is too old counts as none, and so does a cache that
does not answer: a plan then says that free capacity is unknown.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Iterable, Sequence

from django.core.cache import cache
from redis.exceptions import RedisError

from deployments.clusters.port import NodeCapacity

log = logging.getLogger(__name__)

FRESH_SECONDS = 60


_unpacked: dict[str, tuple[str, tuple[NodeCapacity, ...]]] = {}
"""Slug -> digest and nodes, as last read by this process: thousands of nodes are unpacked only when one of
them has changed."""


def remember_nodes(cluster: str, nodes: Sequence[NodeCapacity]) -> None:
    """Keeps the nodes of the cluster with this slug for the next minute."""
    packed = pickle.dumps(tuple(nodes))
    digest = hashlib.sha256(packed).hexdigest()
    cache.set_many({_key(cluster): packed, _digest_key(cluster): digest}, timeout=FRESH_SECONDS)


def known_nodes_of(clusters: Iterable[str]) -> dict[str, tuple[NodeCapacity, ...] | None]:
    """Slug -> the nodes as of the last sweep; None of a cluster that no sweep reached within a minute.

    As long as nothing has changed, it is the same tuple.
    """
    slugs = list(clusters)
    try:
        digests = cache.get_many([_digest_key(slug) for slug in slugs])
        changed = [slug for slug in slugs if _is_news(slug, digests.get(_digest_key(slug)))]
        found = cache.get_many([_key(slug) for slug in changed]) if changed else {}
    except RedisError as error:
        log.warning(
            "The cache does not answer, so the nodes of %s are not known: %s", ", ".join(slugs), error
        )
        return dict.fromkeys(slugs)
    for slug in changed:
        if _key(slug) in found:
            _unpacked[slug] = (digests[_digest_key(slug)], pickle.loads(found[_key(slug)]))
    known = {slug: _unpacked.get(slug) for slug in slugs if _digest_key(slug) in digests}
    return {slug: nodes[1] if (nodes := known.get(slug)) else None for slug in slugs}


def _is_news(cluster: str, digest: str | None) -> bool:
    return digest is not None and _unpacked.get(cluster, ("", ()))[0] != digest


def _key(cluster: str) -> str:
    return f"clusters:nodes:{cluster}"


def _digest_key(cluster: str) -> str:
    return f"clusters:nodes-digest:{cluster}"
