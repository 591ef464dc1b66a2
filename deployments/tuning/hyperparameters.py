"""What a customer may set of a fine-tuning run, with bounds and defaults.

The defaults are those of the runtime's contract, so that there is one place to change them.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rest_framework import serializers

from marketplace.rest.serializers import StrictSerializer
from runtimes.contract import TuningEnvironment

DEFAULTS: dict[str, Any] = {
    item.name: item.default
    for item in fields(TuningEnvironment)
    if item.name
    in ("epochs", "learning_rate", "lora_rank", "batch_tokens", "max_length", "validation_share", "seed")
}


class HyperparametersSerializer(StrictSerializer):
    """Everything has a default."""

    epochs = serializers.IntegerField(min_value=1, max_value=50, default=DEFAULTS["epochs"])
    learning_rate = serializers.FloatField(min_value=1e-7, max_value=1e-1, default=DEFAULTS["learning_rate"])
    lora_rank = serializers.IntegerField(min_value=1, max_value=256, default=DEFAULTS["lora_rank"])
    batch_tokens = serializers.IntegerField(
        min_value=64, max_value=1_000_000, default=DEFAULTS["batch_tokens"], help_text="Tokens in one step."
    )
    max_length = serializers.IntegerField(
        min_value=16,
        max_value=131_072,
        default=DEFAULTS["max_length"],
        help_text="Examples are cut to this many tokens.",
    )
    validation_share = serializers.FloatField(
        min_value=0.0,
        max_value=0.5,
        default=DEFAULTS["validation_share"],
        help_text="Held out when no validation dataset is given.",
    )
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=DEFAULTS["seed"])

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["batch_tokens"] < attrs["max_length"]:
            raise serializers.ValidationError(
                {"batch_tokens": f"An example of max_length {attrs['max_length']} must fit in a step."}
            )
        return attrs
