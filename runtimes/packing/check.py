"""Proof at start that a loaded model computes packed sequences as it computes them apart.

Models that ignore what keeps sequences apart do so silently and their answers look plausible, so no list of
architectures is trusted: the weights at hand are tried on sequences of several lengths, through the very code
that will serve.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from runtimes.packing.attention import Backend
from runtimes.packing.errors import PackingUnsupported
from runtimes.packing.flat import FlatModel

logger = logging.getLogger(__name__)

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Largest difference of hidden states, relative to their largest value, that rounding may explain. Sequences
that see each other differ by a tenth and more."""


@dataclass(frozen=True, kw_only=True)
class PackingChoice:
    """How a model will be computed, and why."""

    flat: FlatModel | None
    """None = padded."""
    reasons: tuple[str, ...]
    """What each back end that was tried showed."""


def choose_packing(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], *, backends: Sequence[Backend]
) -> PackingChoice:
    """The first back end whose results on `sequences` are those of each sequence alone.

    The model's attention is that of the choice afterwards; its own when there is none.
    """
    own = model.config._attn_implementation
    alone = compute_apart(model, sequences)
    reasons = []
    for backend in backends:
        try:
            flat = FlatModel(model, backend=backend)
            error = relative_error(flat(sequences), alone)
        except (PackingUnsupported, RuntimeError, TypeError, ValueError) as failure:
            reasons.append(f"{backend.name}: {failure}")
        else:
            limit = TOLERANCE[str(model.dtype).removeprefix("torch.")]
            reasons.append(f"{backend.name}: differs by {error:.1e} of at most {limit:.0e}")
            if error <= limit:
                return PackingChoice(flat=flat, reasons=tuple(reasons))
        logger.warning("packing is refused: %s", reasons[-1])
        model.set_attn_implementation(own)
    return PackingChoice(flat=None, reasons=tuple(reasons))


@torch.inference_mode()
def compute_apart(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Hidden states [T, H] of sequences computed one at a time, with the model's own attention."""
    network: Any = model
    return torch.cat(
        [
            network(
                input_ids=(ids := torch.tensor([list(sequence)], device=model.device)),
                attention_mask=torch.ones_like(ids),
            ).last_hidden_state[0]
            for sequence in sequences
        ]
    )


def relative_error(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value; infinite for NaN."""
    difference = ((values - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
    return difference if difference == difference else float("inf")
