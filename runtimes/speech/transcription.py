"""A recording from its first window to its last: cut, heard, told in order.

Some windows are heard ahead of the one that is told next, so that one request alone fills a batch; no more,
so that hours of audio take no more memory than minutes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from runtimes.speech.engine import Job, SpeechEngine, is_silence
from runtimes.speech.reading import read_audio
from runtimes.speech.recognizer import Heard
from runtimes.speech.segments import Segment, segments_of
from runtimes.speech.vocabulary import Vocabulary
from runtimes.speech.windows import Window, cut_windows

AHEAD = 8
"""Windows of one request that are heard at once."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a caller asks for, checked."""

    language: str | None
    """Code; None = detect it in the first window that is not silent."""
    task: str
    prompt: tuple[int, ...] = ()
    temperature: float = 0.0
    timestamps: bool = False
    words: bool = False


@dataclass(frozen=True, kw_only=True)
class Told:
    """One window's part of a transcription."""

    segments: tuple[Segment, ...]
    heard: Heard | None
    """None where the window is silent."""
    start: float
    end: float
    """Seconds of the recording: the window's."""


class Transcriber:
    """Reads files in threads of its own and lets the engine hear them."""

    def __init__(self, engine: SpeechEngine, *, vocabulary: Vocabulary, readers: int) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._readers = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="audio")

    @asynccontextmanager
    async def open(self, file: BinaryIO) -> AsyncIterator[AsyncIterator[Window]]:
        """The windows of a file. Raises NotAudio while they are taken."""
        loop = asyncio.get_running_loop()
        windows = cut_windows(read_audio(file))
        busy: asyncio.Future[Window | None] | None = None

        async def take() -> AsyncIterator[Window]:
            nonlocal busy
            while True:
                busy = loop.run_in_executor(self._readers, _next, windows)
                window = await asyncio.shield(busy)
                if window is None:
                    return
                yield window

        try:
            yield take()
        finally:
            if busy is not None:
                # The thread still has the file in its hands when the caller has hung up.
                await asyncio.gather(busy, return_exceptions=True)

    async def transcribe(self, windows: AsyncIterator[Window], wish: Wish) -> AsyncIterator[Told]:
        """The windows' texts, in order. Raises NotAudio and EngineFailure."""
        pending: deque[tuple[Window, asyncio.Task[Heard] | None]] = deque()
        try:
            async for window in windows:
                if window.silent:
                    pending.append((window, None))
                else:
                    task = asyncio.create_task(self._engine.hear(_job(window, wish)))
                    pending.append((window, task))
                    if wish.language is None:
                        # The recording is in one language: the others wait for it.
                        wish = replace(wish, language=(await task).language)
                while len(pending) > AHEAD or (pending and _done(pending[0])):
                    yield await self._tell(*pending.popleft())
            while pending:
                yield await self._tell(*pending.popleft())
        finally:
            for _, work in pending:
                if work is not None:
                    work.cancel()

    async def _tell(self, window: Window, task: asyncio.Task[Heard] | None) -> Told:
        end = window.start + window.seconds
        heard = await task if task is not None else None
        if heard is None or is_silence(heard):
            return Told(segments=(), heard=heard, start=window.start, end=end)
        segments = segments_of(heard, start=window.start, seconds=window.seconds, vocabulary=self._vocabulary)
        return Told(segments=tuple(segments), heard=heard, start=window.start, end=end)


def _next(windows: Iterator[Window]) -> Window | None:
    return next(windows, None)


def _done(waiting: tuple[Window, asyncio.Task[Heard] | None]) -> bool:
    return waiting[1] is None or waiting[1].done()


def _job(window: Window, wish: Wish) -> Job:
    return Job(
        samples=window.samples,
        language=wish.language,
        task=wish.task,
        # Later windows do not begin where the caller's text ended.
        prompt=wish.prompt if window.start == 0 else (),
        temperature=wish.temperature,
        timestamps=wish.timestamps,
        words=wish.words,
    )
