"""Checkpoints: everything a run needs to go on as if nothing had happened, and nothing that can run code.

A checkpoint is a folder `step-00000012` with the adapter and the optimizer's moments as safetensors, and
state.json with the counters and the sha256 of both. It appears by one rename. One that is damaged, or was
made with other data or settings, is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from runtimes.tune.files import write_folder

STATE_FILE = "state.json"
ADAPTER_FILE = "adapter.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
KEPT = 2
"""Newest checkpoints that are kept: one to continue from, one in case that is damaged."""
_PREFIX = "step-"

logger = logging.getLogger("runtimes.tune")


@dataclass(frozen=True, kw_only=True)
class Counters:
    """How far a run is."""

    step: int = 0
    trained_tokens: int = 0
    """All tokens that were computed, prompts included."""
    seconds: float = 0.0
    """Of training, over all attempts."""
    loss: float | None = None
    """Of the last step, nats per trained token."""
    validation_loss_before: float | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    counters: Counters
    adapter: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]


class CheckpointFolder:
    """The checkpoints of one run. `fingerprint` names data and settings: others' checkpoints are not used."""

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> str:
        """Writes a checkpoint, drops old ones, and returns the new one's name below the folder."""
        files = {
            ADAPTER_FILE: save(dict(checkpoint.adapter)),
            OPTIMIZER_FILE: save(dict(checkpoint.optimizer)),
        }
        state = {
            "fingerprint": self._fingerprint,
            "counters": asdict(checkpoint.counters),
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
        name = f"{_PREFIX}{checkpoint.counters.step:08d}"
        write_folder(self._folder / name, {**files, STATE_FILE: json.dumps(state, indent=2).encode()})
        for old in self._names()[KEPT:]:
            shutil.rmtree(self._folder / old, ignore_errors=True)
        return name

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint of this run; None when there is none."""
        for name in self._names():
            try:
                return self._read(self._folder / name)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                logger.warning("checkpoint %s is not used: %s", name, error)
        return None

    def _names(self) -> list[str]:
        """Newest first."""
        return sorted((path.name for path in self._folder.glob(f"{_PREFIX}*") if path.is_dir()), reverse=True)

    def _read(self, folder: Path) -> Checkpoint:
        state = json.loads((folder / STATE_FILE).read_bytes())
        if state["fingerprint"] != self._fingerprint:
            raise ValueError("it was made with other data or settings")
        content = {}
        for name in (ADAPTER_FILE, OPTIMIZER_FILE):
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != state["sha256"][name]:
                raise ValueError(f"{name} is damaged")
            content[name] = load(data)
        return Checkpoint(
            counters=Counters(**state["counters"]),
            adapter=content[ADAPTER_FILE],
            optimizer=content[OPTIMIZER_FILE],
        )
