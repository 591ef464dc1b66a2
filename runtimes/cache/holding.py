"""The main container's side of the cache: keeps its versions there as long as its process lives."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtimes.cache.locks import lock_for_use
from runtimes.cache.marker import MARKER, verified_bytes
from runtimes.contract import ServingEnvironment, TuningEnvironment

logger = logging.getLogger("runtimes.cache")

_held: list[int] = []
"""Locked markers. Nothing closes them but the end of the process."""


def hold_for_serving(environment: ServingEnvironment) -> tuple[ServingEnvironment, frozenset[Path]]:
    """The environment with the folders to load from: the cache's or, where it lost them, the storage's.

    Beside it those whose files need not be hashed: they were when they were brought, and have not changed.
    """
    model, adapter = environment.model_dir, environment.adapter_dir
    holds = {
        model: _hold(model, digests=environment.digests, cached=environment.cached),
        adapter: _hold(adapter, digests=environment.adapter_digests, cached=environment.cached),
    }
    folders = {
        folder: folder if is_held else environment.cached.get(folder, folder)
        for folder, is_held in holds.items()
    }
    verified = frozenset(Path(folder) for folder, is_held in holds.items() if is_held)
    return replace(environment, model_dir=folders[model], adapter_dir=folders[adapter]), verified


def hold_for_tuning(environment: TuningEnvironment) -> tuple[TuningEnvironment, bool]:
    """The environment with the folder to load from, and whether its files need not be hashed."""
    folder = environment.model_dir
    if _hold(folder, digests=environment.digests, cached=environment.cached):
        return environment, True
    return replace(environment, model_dir=environment.cached.get(folder, folder)), False


def _hold(folder: str, *, digests: Mapping[str, str], cached: Mapping[str, str]) -> bool:
    """Whether the folder is a version in the cache; then it stays there."""
    if folder not in cached:
        return False
    handle = lock_for_use(Path(folder) / MARKER)
    if handle is not None and verified_bytes(Path(folder), digests) is not None:
        _held.append(handle)
        return True
    if handle is not None:
        os.close(handle)
    logger.warning("the cache has lost %s meanwhile; it is read from the storage", folder)
    return False
