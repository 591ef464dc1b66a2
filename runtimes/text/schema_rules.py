"""JSON schemas as llguidance takes them; apart from the compiler, whose imports take seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any] | bool

OPTIONS = "x-guidance"
"""Where in a schema llguidance looks for its options; no keyword of JSON Schema."""
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to write each value: with free white space a small model may write nothing else until its end."""


class GrammarRefused(Exception):
    """The schema is invalid, or says what cannot be held; `place` leads to it, keys and positions."""

    def __init__(self, message: str, *, place: Sequence[str | int]) -> None:
        super().__init__(message)
        self.place = tuple(place)


def schema_rule(schema: Schema, *, lenient: bool) -> str:
    """The schema as a part of a Lark grammar, written as compactly as JSON modes write."""
    return "%json " + json.dumps(with_options(schema, lenient=lenient))


def with_options(schema: Schema, *, lenient: bool) -> dict[str, Any]:
    """The schema with how it is to be written; `lenient` leaves out what cannot be held."""
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    return {**schema, OPTIONS: {**_LAYOUT, "lenient": lenient}}
