"""What a customer may set of a fine-tuning run, with bounds, and what is chosen for what was left out.

What does not depend on model or data has its default in the runtime's contract, so that there is one place to
change it. The rest is chosen by rules that are known to carry over, and the job shows what was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rest_framework import serializers

from marketplace.rest.serializers import FiniteFloatField, StrictSerializer
from runtimes.contract import TuningEnvironment

DEFAULTS: dict[str, Any] = {
    item.name: item.default
    for item in fields(TuningEnvironment)
    if item.name in ("epochs", "lora_rank", "max_length", "validation_share", "seed")
}
CHOSEN = "Chosen by model and data when left out."

BASE_RATE = 5e-5 * 15
"""A usual rate of full tuning, and how much higher LoRA's best rate lies in short runs: Schulman et al.,
LoRA Without Regret (2025), https://thinkingmachines.ai/blog/lora/."""
BASE_WIDTH = 2000
WIDTH_EXPONENT = 0.781
"""Wider models want smaller steps: the fit over the Llama family of the Tinker cookbook (2025),
https://github.com/thinking-machines-lab/tinker-cookbook, hyperparam_utils.py. The figure is
quoted from memory; the rate that it gives was tried on one model of width 576 only."""
UNKNOWN_WIDTH_RATE = 2e-4
"""When the catalog does not know the model's width: the rate of QLoRA (2023), safe for all sizes."""

STEPS_PER_EPOCH = 20
"""LoRA suffers from large batches more than full tuning does (same source as BASE_RATE), and a step must be
worth its overhead."""
SMALLEST_BATCH, LARGEST_BATCH = 256, 16_384


class HyperparametersSerializer(StrictSerializer):
    """Everything may be left out."""

    epochs = serializers.IntegerField(min_value=1, max_value=50, default=DEFAULTS["epochs"])
    learning_rate = FiniteFloatField(
        min_value=1e-7, max_value=1e-1, required=False, allow_null=True, default=None, help_text=CHOSEN
    )
    lora_rank = serializers.IntegerField(min_value=1, max_value=256, default=DEFAULTS["lora_rank"])
    batch_tokens = serializers.IntegerField(
        min_value=64,
        max_value=1_000_000,
        required=False,
        allow_null=True,
        default=None,
        help_text=f"Tokens in one step; a longer example is a step of its own. {CHOSEN}",
    )
    max_length = serializers.IntegerField(
        min_value=16,
        max_value=131_072,
        required=False,
        allow_null=True,
        default=None,
        help_text="Examples are cut to this many tokens; when left out, to "
        f"{DEFAULTS['max_length']} or what the model supports.",
    )
    validation_share = FiniteFloatField(
        min_value=0.0,
        max_value=0.5,
        default=DEFAULTS["validation_share"],
        help_text="Held out when no validation dataset is given.",
    )
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=DEFAULTS["seed"])


def complete(
    asked: Mapping[str, Any], *, width: int, context_length: int, tokens_per_epoch: int
) -> dict[str, Any]:
    """The hyperparameters with a value for each that was left out.

    `width` is the model's hidden size and `context_length` its longest input in tokens; 0 = unknown.
    """
    longest = DEFAULTS["max_length"]
    chosen = {
        "learning_rate": learning_rate_for(width),
        "batch_tokens": batch_tokens_for(tokens_per_epoch),
        "max_length": min(longest, context_length or longest),
    }
    return {name: chosen[name] if value is None else value for name, value in asked.items()}


def learning_rate_for(width: int) -> float:
    """The peak rate of LoRA for a model of this hidden size, to two digits."""
    if not width:
        return UNKNOWN_WIDTH_RATE
    return float(f"{BASE_RATE * (BASE_WIDTH / width) ** WIDTH_EXPONENT:.1e}")


def batch_tokens_for(tokens_per_epoch: int) -> int:
    """Tokens in a step: the power of two nearest below a twentieth of an epoch, within limits."""
    share = max(1, tokens_per_epoch // STEPS_PER_EPOCH)
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, 1 << (share.bit_length() - 1)))
