"""Calls of functions in what a model writes: found while the text arrives, as a client should see them.

Models differ only in the marks around their calls; between the marks is JSON with the name of the function
and its arguments. The arguments are passed on as the model writes them, so that a client sees them grow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from runtimes.text.partial_json import ObjectReader

_SPACE = " \t\r\n"
_BETWEEN_CALLS = _SPACE + "[],;"


@dataclass(frozen=True)
class Said:
    """Text that is no call."""

    text: str


@dataclass(frozen=True)
class CallBegan:
    """The model calls a function; its arguments follow."""

    index: int
    """The first call of an answer is 0."""
    name: str


@dataclass(frozen=True)
class Argued:
    """More of the arguments of a call: a fragment of JSON."""

    index: int
    fragment: str


Spoken = Said | CallBegan | Argued


@dataclass(frozen=True, kw_only=True)
class Marks:
    """How one family of models marks calls."""

    begin: str
    end: str = ""
    """Ends what `begin` began; empty = nothing does."""
    bare: bool = False
    """Whether an answer that begins with an object is a call without any mark."""


class CallReader:
    """Reads one answer in pieces, cut anywhere; what comes out joined depends on the whole text alone.

    What looks like a call but names no function of `names` stays text, unless the answer was `forced` to be
    calls: then it is one that was cut off, and dropped. White space around calls is dropped.
    """

    def __init__(self, marks: Marks, *, names: Collection[str], forced: bool = False) -> None:
        self._marks = marks
        self._forced = forced
        self._names = names
        self.calls = 0
        """How many have begun."""
        self._rest = ""
        """Arrived, but not understood without what follows."""
        self._in_marks = False
        self._unused = ""
        """Since the mark, or since the last call: text again if no call comes of it."""
        self._object: ObjectReader | None = None
        self._began = False
        """Whether the object being read has been told as a call."""
        self._called_in_marks = False
        self._said = False
        self._space = ""
        """White space that is told only if text follows."""

    def push(self, text: str) -> list[Spoken]:
        """What has become certain."""
        self._rest += text
        return list(self._read(final=False))

    def finish(self) -> list[Spoken]:
        """What was held back, once no more text comes."""
        spoken = list(self._read(final=True))
        unused, self._unused = self._unused, ""
        if not self._forced and (not self._called_in_marks or "{" in unused):
            spoken += self._say(unused)
        if self._space and not self.calls:
            spoken.append(Said(self._space))
        return spoken

    def _read(self, *, final: bool) -> Iterator[Spoken]:
        while self._rest:
            left = len(self._rest)
            was_in_marks = self._in_marks
            if self._object is not None:
                yield from self._read_object(self._object)
            elif self._in_marks:
                yield from self._read_between(final=final)
            else:
                yield from self._read_text(final=final)
            if len(self._rest) == left and self._in_marks == was_in_marks and self._object is None:
                return

    def _read_text(self, *, final: bool) -> Iterator[Spoken]:
        mark = self._marks.begin
        if self._marks.bare and not self._said and not self.calls:
            inner = self._rest.lstrip(_SPACE)
            if inner.startswith("{"):
                self._enter(self._rest[: len(self._rest) - len(inner)])
                return
        before, found, _ = self._rest.partition(mark)
        if found:
            yield from self._say(before)
            self._rest = self._rest[len(before) :]
            self._enter(mark)
            return
        keep = 0 if final else _overlap(self._rest, mark)
        certain = self._rest[: len(self._rest) - keep]
        self._rest = self._rest[len(certain) :]
        yield from self._say(certain)

    def _enter(self, mark: str) -> None:
        self._rest = self._rest[len(mark) :]
        self._unused = mark
        self._in_marks = True
        self._called_in_marks = False

    def _read_between(self, *, final: bool) -> Iterator[Spoken]:
        end = self._marks.end
        if self._rest[0] == "{":
            self._object, self._began = ObjectReader(), False
        elif self._rest[0] in _BETWEEN_CALLS:
            self._unused += self._rest[0]
            self._rest = self._rest[1:]
        elif end and self._rest.startswith(end):
            self._unused += end
            self._rest = self._rest[len(end) :]
            yield from self._leave()
        elif final or not end.startswith(self._rest):
            yield from self._leave()

    def _leave(self) -> Iterator[Spoken]:
        unused, self._unused = self._unused, ""
        self._in_marks = False
        # After a call only punctuation is dropped: an object that is no call is text.
        if not self._called_in_marks or "{" in unused:
            yield from self._say(unused)

    def _read_object(self, reader: ObjectReader) -> Iterator[Spoken]:
        taken = reader.feed(self._rest)
        self._unused += self._rest[:taken]
        self._rest = self._rest[taken:]
        if not self._began and reader.name in self._names and not reader.broken:
            self._began = self._called_in_marks = True
            self._space = ""
            self.calls += 1
            yield CallBegan(self.calls - 1, str(reader.name))
        if self._began:
            self._unused = ""
            fragment = reader.take()
            if fragment:
                yield Argued(self.calls - 1, fragment)
        if reader.done or reader.broken:
            if self._began and not reader.argued:
                yield Argued(self.calls - 1, "{}")
            self._object, self._began = None, False
            if reader.broken:
                yield from self._leave()

    def _say(self, text: str) -> Iterator[Spoken]:
        text = self._space + text
        certain = text.rstrip(_SPACE)
        self._space = text[len(certain) :]
        if certain:
            yield Said(certain.lstrip(_SPACE) if self.calls and not self._said else certain)
            self._said = True


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that is a beginning of `mark`."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
