"""From the tokens of a window to segments and words with times. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.speech.recognizer import Heard
from runtimes.speech.vocabulary import SECONDS_PER_TIMESTAMP, Vocabulary


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """Times in seconds from the beginning of the recording."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A sentence or so. Times in seconds from the beginning of the recording."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    heard: Heard
    words: tuple[TimedWord, ...] = ()


def segments_of(heard: Heard, *, start: float, seconds: float, vocabulary: Vocabulary) -> list[Segment]:
    """The segments of a window that begins at `start` and lasts `seconds`; none without words."""
    words = _words(heard, start=start, vocabulary=vocabulary)
    segments: list[Segment] = []
    for first, last, tokens in _split(heard.tokens, seconds=seconds, vocabulary=vocabulary):
        text = vocabulary.decode(tokens)
        if not text.strip():
            continue
        taken: list[TimedWord] = []
        count = 0
        while words and count < len(vocabulary.texts(tokens)):
            size, word = words.pop(0)
            count += size
            taken.append(word)
        segments.append(
            Segment(
                start=round(start + first, 3),
                end=round(start + last, 3),
                text=text,
                tokens=tuple(tokens),
                heard=heard,
                words=tuple(taken),
            )
        )
    return segments


def compression_ratio(text: str) -> float:
    """How much shorter the text becomes when packed; a text that repeats itself becomes much shorter.

    As in Whisper's `utils.py`.
    """
    content = text.encode()
    return len(content) / len(zlib.compress(content)) if content else 0.0


def _split(
    tokens: Sequence[int], *, seconds: float, vocabulary: Vocabulary
) -> list[tuple[float, float, list[int]]]:
    """Begin and end within the window, and the tokens between: timestamps come before and after a segment."""
    found: list[tuple[float, float, list[int]]] = []
    begin, text = 0.0, list[int]()
    for token in tokens:
        if token < vocabulary.first_timestamp:
            text.append(token)
            continue
        time = min((token - vocabulary.first_timestamp) * SECONDS_PER_TIMESTAMP, seconds)
        if text:
            found.append((begin, max(begin, time), text))
            text = []
        begin = time
    if text:
        found.append((begin, max(begin, seconds), text))
    return found


def _words(heard: Heard, *, start: float, vocabulary: Vocabulary) -> list[tuple[int, TimedWord]]:
    """Each word with the number of its tokens."""
    if heard.times is None:
        return []
    times = heard.times
    return [
        (
            word.end - word.first,
            TimedWord(
                word=word.text.strip(),
                start=round(start + times[word.first], 3),
                end=round(start + times[word.end], 3),
            ),
        )
        for word in vocabulary.words(vocabulary.texts(heard.tokens), language=heard.language)
    ]
