"""The main container's side of the cache: keeps its versions there as long as its process lives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtimes.cache.locks import lock_for_use
from runtimes.cache.marker import MARKER, verified_bytes
from runtimes.contract import ServingEnvironment, TuningEnvironment

logger = logging.getLogger("runtimes.cache")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Which folders the process loads from."""

    verified: frozenset[Path] = frozenset()
    """Those whose files were hashed when they were brought, and have not changed since."""
    handles: tuple[int, ...] = field(default=())
    """Locks of those, held until the process ends."""


def hold_for_serving(environment: ServingEnvironment) -> tuple[ServingEnvironment, Holding]:
    """The environment with the folders to load from, the cache's or, where it lost them, the storage's."""
    model, holding = _hold(environment.model_dir, digests=environment.digests, cached=environment.cached)
    adapter, other = _hold(
        environment.adapter_dir, digests=environment.adapter_digests, cached=environment.cached
    )
    both = Holding(verified=holding.verified | other.verified, handles=holding.handles + other.handles)
    return replace(environment, model_dir=model, adapter_dir=adapter), both


def hold_for_tuning(environment: TuningEnvironment) -> tuple[TuningEnvironment, Holding]:
    """As `hold_for_serving`."""
    model, holding = _hold(environment.model_dir, digests=environment.digests, cached=environment.cached)
    return replace(environment, model_dir=model), holding


def _hold(folder: str, *, digests: Mapping[str, str], cached: Mapping[str, str]) -> tuple[str, Holding]:
    if folder not in cached:
        return folder, Holding()
    handle = lock_for_use(Path(folder) / MARKER)
    if handle is not None and verified_bytes(Path(folder), digests) is not None:
        return folder, Holding(verified=frozenset({Path(folder)}), handles=(handle,))
    logger.warning("the node's cache has lost %s meanwhile; it is read from the storage", folder)
    return cached[folder], Holding()
