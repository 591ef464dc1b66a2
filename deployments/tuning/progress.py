"""Folds the events of a training run into the few figures that a job shows. Pure.

Events come out of a container's log, so a figure that is no finite number is left out rather than stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from runtimes.contract import TrainingEventType

PROGRESS_FIGURES = ("total_steps", "loss", "trained_tokens", "tokens_per_second", "eta_seconds")
STARTED_FIGURES = ("total_steps", "train_examples", "validation_examples", "train_tokens")


def fold_event(progress: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """The progress after one more event.

    Keys, each present once it is known: step, total_steps, train_examples, validation_examples, train_tokens
    (of one epoch), loss (of the newest step), trained_tokens, tokens_per_second, eta_seconds,
    validation_loss_before (of the base model), validation_loss_after (newest evaluation), seconds (of
    training, once finished).
    """
    folded = dict(progress)
    match event.get("type"):
        case TrainingEventType.STARTED:
            # A new attempt may continue from a checkpoint older than the last step that was shown.
            folded |= _figures(event, STARTED_FIGURES) | {"step": _step(event, "resumed_from_step")}
        case TrainingEventType.PROGRESS:
            folded |= _figures(event, PROGRESS_FIGURES) | {"step": _step(event, "step")}
        case TrainingEventType.EVALUATION:
            name = "validation_loss_before" if event.get("step") == 0 else "validation_loss_after"
            if _is_number(event.get("validation_loss")):
                folded[name] = event["validation_loss"]
        case TrainingEventType.FINISHED:
            figures = ("trained_tokens", "validation_loss_before", "validation_loss_after", "seconds")
            folded |= _figures(event, figures) | {"step": _step(event, "step"), "eta_seconds": 0}
    return folded


def _step(event: Mapping[str, Any], name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def _figures(event: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    found = {name: event.get(name) for name in names}
    return {name: value for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
