"""How token vectors become one vector, as the model folder's sentence-transformers files say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runtimes.errors import SetupError
from runtimes.weights import read_config

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(hidden [T, H], lengths [B]) -> [B, H]; the sequences stand one after another, without padding."""


def _mean(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.segment_reduce(hidden, "mean", lengths=lengths, axis=0)


def _first(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return hidden[lengths.cumsum(0) - lengths]


def _last(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return hidden[lengths.cumsum(0) - 1]


def _largest(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.segment_reduce(hidden, "max", lengths=lengths, axis=0)


POOLS: Mapping[str, Pool] = {
    "pooling_mode_mean_tokens": _mean,
    "pooling_mode_cls_token": _first,
    "pooling_mode_lasttoken": _last,
    "pooling_mode_max_tokens": _largest,
}
"""Under the names that sentence-transformers gives them in a pooling configuration."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """What is done with the output of the encoder."""

    mode: str = "pooling_mode_mean_tokens"
    normalize: bool = False
    max_tokens: int | None = None
    """Longest input the model was trained for, special tokens included; None = not said."""

    def __call__(self, hidden: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """hidden [T, H] of sequences of these lengths, one after another, to float32 vectors [B, H]."""
        sizes = torch.tensor(lengths, device=hidden.device)
        vectors = POOLS[self.mode](hidden.float(), sizes)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def read_pooling(folder: Path) -> Pooling:
    """Reads modules.json and what it names; without it the mean, as sentence-transformers does.

    Raises SetupError for a module or a mode that would change the vectors and is not known here.
    """
    modules_file = folder / "modules.json"
    if not modules_file.exists():
        return Pooling()
    try:
        modules: list[dict[str, Any]] = json.loads(modules_file.read_bytes())
        kinds = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{modules_file} is not a list of modules with type and path: {error}") from error
    mode, normalize = "pooling_mode_mean_tokens", False
    for kind, path in kinds:
        match kind:
            case "Transformer":
                continue
            case "Pooling":
                mode = _read_mode(folder, f"{path}/config.json")
            case "Normalize":
                normalize = True
            case _:
                raise SetupError(f"{modules_file} has a {kind} module, which this runtime does not apply")
    return Pooling(mode=mode, normalize=normalize, max_tokens=_read_max_tokens(folder))


def _read_mode(folder: Path, name: str) -> str:
    config = read_config(folder, name)
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in POOLS:
        raise SetupError(
            f"{folder / name} asks for {modes or 'no mode'}; one of {', '.join(POOLS)} is possible"
        )
    return modes[0]


def _read_max_tokens(folder: Path) -> int | None:
    name = "sentence_bert_config.json"
    if not (folder / name).exists():
        return None
    limit = read_config(folder, name).get("max_seq_length")
    return int(limit) if limit else None
