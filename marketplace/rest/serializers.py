"""Serializers that refuse what they do not know: a misspelt field must not be silently dropped."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from rest_framework import serializers


def unknown_field(name: str, known: Collection[str]) -> str:
    """The message for a field that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    if near:
        return f"There is no such field; did you mean '{near[0]}'?"
    return f"There is no such field; there are: {', '.join(sorted(known)) or 'none'}."


class FiniteFloatField(serializers.FloatField):
    """A number. Not the texts "nan" and "inf", which Python reads as floats and JSON cannot hold."""

    def to_internal_value(self, data: Any) -> float:
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            self.fail("invalid")
        return value


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields, and those that only the server sets, each by its name."""

    def to_internal_value(self, data: Any) -> Any:
        unknown: dict[str, list[str]] = {}
        if isinstance(data, Mapping):
            writable = {name for name, field in self.fields.items() if not field.read_only}
            for name in data:
                if name in writable:
                    continue
                fixed = name in self.fields
                unknown[str(name)] = ["This field cannot be set." if fixed else unknown_field(name, writable)]
        # All that is wrong in one answer: the unknown fields beside what the known ones say.
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, dict):
                raise serializers.ValidationError({**unknown, **error.detail}) from error
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return value


class StrictModelSerializer(StrictSerializer, serializers.ModelSerializer[Any]):
    """The same for a model's fields."""
