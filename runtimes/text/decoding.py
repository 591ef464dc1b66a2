"""From tokens to text while they arrive: whole characters only, and nothing at or after a stop sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextAssembler:
    """Text of one answer, piece by piece.

    `decode` turns token ids into text. The pieces joined are exactly the decoded answer up to the first stop
    sequence, however the tokens cut characters and stop sequences apart.
    """

    def __init__(self, *, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        # Tokens before `_context` are out and no longer looked at; those from `_context` to `_read` are out
        # too, but decoded again with the new ones, because the text of a token can depend on the one before
        # it.
        self._context = 0
        self._read = 0
        self._held = ""
        self.stopped = False
        """Whether a stop sequence was found; no more text will come."""

    def push(self, token: int) -> str:
        """The text that has become certain with this token, often empty."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._read])
        after = self._decode(self._tokens[self._context :])
        if len(after) <= len(before) or after.endswith(REPLACEMENT):
            # Part of a character; the next tokens complete it.
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return self._release(after[len(before) :])

    def finish(self) -> str:
        """What was held back, once no more tokens come."""
        if self.stopped:
            return ""
        before = self._decode(self._tokens[self._context : self._read])
        rest = self._release(self._decode(self._tokens[self._context :])[len(before) :])
        # Empty when a stop sequence was found after all.
        held, self._held = self._held, ""
        return rest + held

    def _release(self, text: str) -> str:
        text = self._held + text
        found = [position for position in map(text.find, self._stop) if position >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
