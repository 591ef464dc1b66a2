"""A packed row as tensors, and its loss.

Several examples stand in one row, each with position ids that begin at 0. transformers derives from these a
mask that keeps the examples apart, but only when it is given neither an attention mask nor a cache: with
`use_cache=True`, which is the default, or with a mask of ones, the examples would silently see each other
(`transformers.masking_utils`). `is_isolated` proves it for the model at hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from runtimes.tune.encoding import Example

TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2, "float16": 1e-2}
"""Largest relative difference of a packed loss that rounding may explain; mixed examples differ by more."""


@dataclass(frozen=True)
class Row:
    """A packed row on a device."""

    tokens: torch.Tensor  # [1, T] int64
    positions: torch.Tensor  # [1, T] int64, from 0 within each example
    predictors: torch.Tensor  # [P] int64: places in the row whose next token counts in the loss
    targets: torch.Tensor  # [P] int64: those next tokens


def make_row(examples: Sequence[Example], *, device: str) -> Row:
    """Packs examples into one row."""
    tokens: list[int] = []
    positions: list[int] = []
    targets: list[int] = []  # places in the row
    for example in examples:
        targets += [len(tokens) + place for place, learn in enumerate(example.trained) if learn]
        tokens += example.tokens
        positions += range(len(example))
    row = torch.tensor(tokens, device=device)
    places = torch.tensor(targets, dtype=torch.int64, device=device)
    return Row(
        tokens=row[None],
        positions=torch.tensor(positions, device=device)[None],
        predictors=places - 1,
        targets=row[places],
    )


class RowLoss:
    """Computes losses of rows with one causal language model."""

    def __init__(self, model: Any, *, forward: Any) -> None:
        """`forward` is the bare model's, whose signature tells what it can do."""
        self._model = model
        # Logits of all tokens would be the largest tensor of the run; only those of answers are needed.
        self._can_select = "logits_to_keep" in inspect.signature(forward).parameters

    def __call__(self, row: Row) -> torch.Tensor:
        """Cross-entropy in nats, summed over the row's targets."""
        selection = {"logits_to_keep": row.predictors} if self._can_select else {}
        output = self._model(input_ids=row.tokens, position_ids=row.positions, use_cache=False, **selection)
        logits = output.logits[0] if self._can_select else output.logits[0, row.predictors]
        return functional.cross_entropy(logits.float(), row.targets, reduction="sum")


def is_isolated(loss: RowLoss, examples: Sequence[Example], *, device: str, dtype: str) -> bool:
    """Whether two examples in one row have the loss that they have apart, for this very model."""
    pair = sorted(examples, key=len)[:2]
    if len(pair) < 2:
        return True
    with torch.no_grad():
        packed = loss(make_row(pair, device=device)).item()
        apart = sum(loss(make_row([example], device=device)).item() for example in pair)
    return abs(packed - apart) <= TOLERANCE[dtype] * max(apart, 1e-6)
