"""A call of a function as JSON, `{"name": ..., "arguments": {...}}`, read while it arrives."""

from __future__ import annotations

import json

_SPACE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")


class ObjectReader:
    """Reads one object, whose first character is the first that it is given.

    It checks no more than is needed to find the object's end: what a model writes as arguments is the
    client's to judge.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.argued = False
        """Whether the arguments have begun."""
        self.done = False
        self.broken = False
        """It is no object after all; nothing more is read."""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._key: str | None = None
        self._raw = ""
        """Of the key or the value that is being read."""
        self._in_value = False
        self._arguments = ""
        """Raw arguments that nobody has taken."""

    def feed(self, text: str) -> int:
        """How many characters of the text belong to the object."""
        for position, character in enumerate(text):
            if self.done or self.broken:
                return position
            self._step(character)
        return len(text)

    def take(self) -> str:
        """The arguments that have arrived since the last time, white space around them left out."""
        if self._in_value and self._key in _ARGUMENTS and self._raw.startswith('"'):
            return ""
        certain = self._arguments if self.done else self._arguments.rstrip(_SPACE)
        self._arguments = self._arguments[len(certain) :]
        return certain

    def _step(self, character: str) -> None:
        if self._in_string:
            self._keep(character)
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
            return
        if character == '"':
            self._in_string = True
            self._keep(character)
        elif character in "{[":
            self._depth += 1
            if self._depth > 1:
                self._keep(character)
        elif character in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._end_value()
                self.done = not self.broken
            else:
                self._keep(character)
        elif self._depth == 1 and character == ":" and not self._in_value:
            self._end_key()
        elif self._depth == 1 and character == ",":
            self._end_value()
        elif character not in _SPACE or self._raw:
            self._keep(character)

    def _keep(self, character: str) -> None:
        self._raw += character
        if self._in_value and self._key in _ARGUMENTS:
            self.argued = True
            self._arguments += character

    def _end_key(self) -> None:
        key = _loads(self._raw)
        self.broken = not isinstance(key, str)
        self._key = key if isinstance(key, str) else None
        self._raw, self._in_value = "", True

    def _end_value(self) -> None:
        if not self._in_value:
            # An empty object, or something that is no pair.
            self.broken = bool(self._raw.strip(_SPACE))
            return
        value = _loads(self._raw)
        if self._key == "name":
            self.name = value if isinstance(value, str) else None
            self.broken = self.name is None
        elif self._key in _ARGUMENTS:
            # Some models write the arguments as a string of JSON.
            self._arguments = value if isinstance(value, str) else self._arguments.rstrip(_SPACE)
        self._key, self._raw, self._in_value = None, "", False


def _loads(raw: str) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None
