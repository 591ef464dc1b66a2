"""How long a fine-tuning run takes and what it costs, before it runs. Pure.

Operations: LoRA on all linear layers takes about 4.2 operations per parameter and token, forward and backward
(counted with torch's FlopCounterMode on a 135M model: 4.21; full training: 6.00). Time is operations over the
speed that the accelerator reaches, which is a prior until runs of the same model on the same flavor have been
measured; then it is their median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

LORA_OPERATIONS = 4.2
"""Per parameter and token."""
UTILIZATION = 0.25
"""Share of an accelerator's dense peak that LoRA reaches at small batches; a prior, not a measurement."""
CPU_OPERATIONS_PER_SECOND_AND_CORE = 50e9
"""What matrix products of this size reach per vCPU in float32; a prior from x86-64 with AVX-512."""
START_SECONDS = 20.0
"""Imports, loading and the first evaluation."""
PRIOR_ERROR = 2.0
"""Factor by which an estimate from priors may be off either way."""
MEASURED_ERROR = 1.3
"""The same once runs have been measured."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is to be trained."""

    parameters: int
    tokens_per_epoch: int
    epochs: int
    batch_tokens: int


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What the hardware does."""

    operations_per_second: float
    """Reached, not peak."""
    measured_tokens_per_second: Sequence[float] = ()
    """Of earlier runs of the same model on the same flavor."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds and money, with a band. `measured`: from how many earlier runs, 0 = from priors."""

    tokens: int
    steps: int
    seconds: float
    seconds_low: float
    seconds_high: float
    cost: Decimal
    cost_low: Decimal
    cost_high: Decimal
    measured: int


def estimate_tuning(load: Load, speed: Speed, *, per_second: Decimal) -> Estimate:
    """Time and cost of a run at a price per second."""
    tokens = load.tokens_per_epoch * load.epochs
    steps = load.epochs * max(1, math.ceil(load.tokens_per_epoch / load.batch_tokens))
    if speed.measured_tokens_per_second:
        pace, error = median(speed.measured_tokens_per_second), MEASURED_ERROR
    else:
        pace = speed.operations_per_second / (LORA_OPERATIONS * max(1, load.parameters))
        error = PRIOR_ERROR
    training = tokens / pace
    seconds, low, high = (START_SECONDS + training * factor for factor in (1, 1 / error, error))
    return Estimate(
        tokens=tokens,
        steps=steps,
        seconds=seconds,
        seconds_low=low,
        seconds_high=high,
        cost=_cost(seconds, per_second),
        cost_low=_cost(low, per_second),
        cost_high=_cost(high, per_second),
        measured=len(speed.measured_tokens_per_second),
    )


def _cost(seconds: float, per_second: Decimal) -> Decimal:
    return (Decimal(str(round(seconds, 3))) * per_second).quantize(Decimal("0.000001"))
