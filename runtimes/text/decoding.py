"""From tokens to text while they arrive: whole characters only, and nothing at or after a stop sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from runtimes.text.engine import Token

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


class TokenAligner:
    """Which tokens belong to the text that has come out, as far as anybody asked for the tokens.

    `bytes_of` gives the bytes that a token stands for.
    """

    def __init__(self, *, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._held: deque[tuple[int, int, Token]] = deque()
        """First byte, byte after the last, token: those whose text has not come out."""
        self._read = 0
        self._released = 0

    def push(self, token: Token, *, text: str) -> list[Token]:
        """The tokens whose text is out, now that `text` came out with this token."""
        end = self._read + len(self._bytes_of(token.id))
        self._held.append((self._read, end, token))
        self._read = end
        self._released += len(text.encode())
        return self._take(lambda first, end: end <= self._released)

    def finish(self, *, text: str, stopped: bool) -> list[Token]:
        """The last ones; after a stop sequence those that lie wholly in it or after it are left out."""
        self._released += len(text.encode())
        return self._take(lambda first, end: not stopped or first < self._released)

    def _take(self, is_out: Callable[[int, int], bool]) -> list[Token]:
        taken = []
        while self._held and is_out(*self._held[0][:2]):
            taken.append(self._held.popleft()[2])
        return taken


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
