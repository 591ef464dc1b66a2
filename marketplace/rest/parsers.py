"""Reads JSON bodies strictly: each way in which one can be wrong has an answer that points to the place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers

from marketplace.rest.problems import Problem


class JSONParser(parsers.JSONParser):
    """JSON in UTF-8 (RFC 8259): no NaN, no name twice in an object, no text that a database cannot hold."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """The value of a JSON body. Raises a 400 problem naming the byte, or line and column, that is wrong."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(
            type="invalid-utf-8",
            title="Not UTF-8",
            detail=f"The body is not UTF-8: byte {body[error.start]:#04x} at position {error.start}.",
            position=error.start,
        ) from error
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_each_name_once
        )
    except json.JSONDecodeError as error:
        raise _malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            line=error.lineno,
            column=error.colno,
        ) from error
    except RecursionError as error:
        raise _malformed("The body is nested too deeply.") from error
    except ValueError as error:  # ours below, or a number of more digits than Python reads
        raise _malformed(f"The body is not usable: {error}.") from error
    if "\\u" in text:  # only an escape can smuggle in what UTF-8 itself forbids
        _refuse_unstorable(value)
    return value


def _malformed(detail: str, **extra: Any) -> Problem:
    return Problem(type="malformed-body", title="Malformed body", detail=detail, **extra)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} comes twice in one object")
        found[name] = value
    return found


def _refuse_unstorable(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise _malformed("A text in the body contains the character NUL (\\u0000).")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise _malformed(f"A text in the body contains half a character ({half} alone).") from error
    elif isinstance(value, dict):
        for name, inner in value.items():
            _refuse_unstorable(name)
            _refuse_unstorable(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unstorable(inner)
