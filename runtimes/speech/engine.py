"""Hears what has queued: windows of any request, many at once.

Whisper was made for windows of 30 s, and a clip of 4 s costs as much as one. The encoder also takes less: a
batch is as long as its longest clip plus three seconds of silence. Whisper was not trained on that, so the
answer is looked at: one that repeats itself, or that the model itself doubts, is heard again with the whole
30 s, and then at higher temperatures, as Whisper's authors do it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtimes.batches import observe_batch
from runtimes.engine_thread import EngineThread
from runtimes.errors import EngineFailure
from runtimes.packing.padded import plan_batches
from runtimes.speech.reading import RATE, Samples
from runtimes.speech.recognizer import Features, Heard, Hypothesis, Recognizer
from runtimes.speech.segments import compression_ratio
from runtimes.speech.vocabulary import Vocabulary
from runtimes.speech.windows import LONGEST_SECONDS

logger = logging.getLogger(__name__)

BATCH_SECONDS = 8 * LONGEST_SECONDS
"""Audio of one computation, padding included."""
PADDING_SECONDS = 3.0
"""Silence after the longest clip of a batch. With less, answers that repeat themselves were seen more often:
half a second in 1 of 10 clips, one second in 5 of 20, three seconds in 3 of 20."""
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried one after the other while an answer looks wrong, if the caller asked for 0."""
# When an answer looks wrong, and when there is nobody who speaks: Whisper's own numbers (transcribe.py).
MAX_COMPRESSION = 2.4
MIN_LOGPROB = -1.0
MAX_NO_SPEECH = 0.6
TOKENS_PER_SECOND = 15
"""More than anybody says in any language; ends an answer that repeats itself early."""
MAX_TOKENS = 224
"""Of one window; the rest of the context is the prompt's."""

Extract = Callable[[Sequence[Samples], int], Features]
"""(clips, samples) -> features of the clips, each padded with silence or cut to so many samples."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A window to be heard."""

    samples: Samples
    language: str | None
    """Code; None = detect it."""
    task: str
    """transcribe or translate."""
    prompt: tuple[int, ...] = ()
    """Text tokens that came before."""
    temperature: float = 0.0
    timestamps: bool = False
    words: bool = False


@dataclass(frozen=True)
class _Item:
    job: Job
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Heard]


class SpeechEngine(EngineThread[_Item]):
    """One thread that hears."""

    what = "speech engine"

    def __init__(self, recognizer: Recognizer, *, vocabulary: Vocabulary, extract: Extract) -> None:
        super().__init__()
        self._recognizer = recognizer
        self._vocabulary = vocabulary
        self._extract = extract
        self._queue: deque[_Item] = deque()

    async def hear(self, job: Job) -> Heard:
        """What was said. A window whose caller has left meanwhile is not computed."""
        loop = asyncio.get_running_loop()
        item = _Item(job, loop, loop.create_future())
        with self._adding():
            self._queue.append(item)
        try:
            return await item.answer
        finally:
            item.answer.cancel()

    def _take(self) -> list[_Item]:
        """Everything that is still wanted, up to the audio of a batch."""
        taken: list[_Item] = []
        seconds = 0.0
        while self._queue and seconds < BATCH_SECONDS:
            item = self._queue.popleft()
            if not item.answer.cancelled():
                taken.append(item)
                seconds += len(item.job.samples) / RATE
        return taken

    def _compute(self, batch: list[_Item]) -> None:
        lengths = [len(item.job.samples) for item in batch]
        for part in plan_batches(lengths, max_tokens=int(BATCH_SECONDS * RATE)):
            items = [batch[index] for index in part if not batch[index].answer.cancelled()]
            if items:
                observe_batch(sequences=len(items))
                heard = self.compute([item.job for item in items])
                for item, result in zip(items, heard, strict=True):
                    item.loop.call_soon_threadsafe(_answer, item.answer, result)

    def _give_up(self, batch: list[_Item], failure: EngineFailure) -> None:
        for item in [*batch, *self._queue]:
            item.loop.call_soon_threadsafe(_fail, item.answer, failure)
        self._queue.clear()

    # --- one batch -----------------------------------------------------------------------------------------

    def compute(self, jobs: Sequence[Job]) -> list[Heard]:
        """What was said in each window, computed together."""
        longest = max(len(job.samples) for job in jobs) / RATE
        short = min(longest + PADDING_SECONDS, LONGEST_SECONDS)
        encoded = self._encode(jobs, seconds=short)
        jobs, sure = self._detect(jobs, encoded)
        heard = self._decode(jobs, sure, encoded, temperatures=[job.temperature for job in jobs])
        rows = [index for index, it in enumerate(heard) if _looks_wrong(it)]
        places = {row: (encoded, row) for row in range(len(jobs))}
        if rows and short < LONGEST_SECONDS:
            whole = self._encode([jobs[row] for row in rows], seconds=LONGEST_SECONDS)
            again = self._decode(
                [jobs[row] for row in rows],
                [sure[row] for row in rows],
                whole,
                temperatures=[jobs[row].temperature for row in rows],
            )
            for place, (row, result) in enumerate(zip(rows, again, strict=True)):
                heard[row], places[row] = result, (whole, place)
        for temperature in TEMPERATURES:
            rows = [row for row, it in enumerate(heard) if _looks_wrong(it) and jobs[row].temperature == 0.0]
            for row in rows:
                source, place = places[row]
                (heard[row],) = self._decode(
                    [jobs[row]],
                    [sure[row]],
                    self._recognizer.select(source, [place]),
                    temperatures=[temperature],
                )
        return [
            self._align(job, it, places[row]) if job.words else it
            for row, (job, it) in enumerate(zip(jobs, heard, strict=True))
        ]

    def _encode(self, jobs: Sequence[Job], *, seconds: float) -> Any:
        # The encoder halves the number of frames (10 ms each), so it must be even.
        frames = 2 * math.ceil(seconds * 50)
        features = self._extract([job.samples for job in jobs], frames * RATE // 100)
        return self._recognizer.encode(features)

    def _detect(self, jobs: Sequence[Job], encoded: Any) -> tuple[list[Job], list[float]]:
        """The jobs with their languages, and how sure each is."""
        sure = [1.0] * len(jobs)
        known = list(jobs)
        rows = [row for row, job in enumerate(jobs) if job.language is None and self._vocabulary.languages]
        if rows:
            found = self._recognizer.detect(self._recognizer.select(encoded, rows))
            for row, (language, probability) in zip(rows, found, strict=True):
                known[row], sure[row] = replace(jobs[row], language=language), probability
        return known, sure

    def _decode(
        self, jobs: Sequence[Job], sure: Sequence[float], encoded: Any, *, temperatures: Sequence[float]
    ) -> list[Heard]:
        prompts = [self._prompt(job) for job in jobs]
        groups: dict[tuple[int, bool, float], list[int]] = {}
        for row, job in enumerate(jobs):
            groups.setdefault((len(prompts[row]), job.timestamps, temperatures[row]), []).append(row)
        results: dict[int, Hypothesis] = {}
        for (_, _, temperature), rows in groups.items():
            seconds = max(len(jobs[row].samples) for row in rows) / RATE
            found = self._recognizer.decode(
                self._recognizer.select(encoded, rows),
                prompts=[prompts[row] for row in rows],
                temperature=temperature,
                max_tokens=min(20 + math.ceil(seconds * TOKENS_PER_SECOND), MAX_TOKENS),
            )
            results.update(zip(rows, found, strict=True))
        return [
            Heard(
                tokens=results[row].tokens,
                language=job.language or "en",
                language_probability=sure[row],
                average_logprob=results[row].average_logprob,
                no_speech_probability=results[row].no_speech_probability,
                compression_ratio=compression_ratio(self._vocabulary.decode(results[row].tokens).strip()),
                temperature=temperatures[row],
            )
            for row, job in enumerate(jobs)
        ]

    def _prompt(self, job: Job) -> list[int]:
        previous = [self._vocabulary.previous, *job.prompt] if job.prompt else []
        sequence = self._vocabulary.sequence(language=job.language, task=job.task, timestamps=job.timestamps)
        return [*previous, *sequence]

    def _align(self, job: Job, heard: Heard, place: tuple[Any, int]) -> Heard:
        tokens = self._vocabulary.texts(heard.tokens)
        if not tokens:
            return replace(heard, times=())
        encoded, row = place
        (times,) = self._recognizer.align(
            self._recognizer.select(encoded, [row]),
            sequence=self._vocabulary.sequence(language=job.language, task=job.task, timestamps=False),
            tokens=[tokens],
            frames=[min(len(job.samples) * 100 // RATE, encoded.shape[1] * 2)],
        )
        # An alignment may end before the last tokens; they all happen at its end.
        last = max(times, default=0.0)
        return replace(heard, times=(*times, *[last] * (len(tokens) + 1 - len(times))))


def is_silence(heard: Heard) -> bool:
    """Whether nobody speaks: the model says so, and does not believe what it heard."""
    return heard.no_speech_probability > MAX_NO_SPEECH and heard.average_logprob < MIN_LOGPROB


def _looks_wrong(heard: Heard) -> bool:
    if is_silence(heard):
        return False
    return heard.compression_ratio > MAX_COMPRESSION or heard.average_logprob < MIN_LOGPROB


def make_extract(extractor: Any) -> Extract:
    """Features by the folder's own feature extractor."""

    def extract(clips: Sequence[Samples], samples: int) -> Features:
        features: Features = np.asarray(
            extractor(
                list(clips),
                sampling_rate=RATE,
                padding="max_length",
                max_length=samples,
                truncation=True,
                return_tensors="np",
            ).input_features,
            dtype=np.float32,
        )
        return features

    return extract


def _answer(future: asyncio.Future[Heard], heard: Heard) -> None:
    if not future.done():
        future.set_result(heard)


def _fail(future: asyncio.Future[Heard], failure: EngineFailure) -> None:
    if not future.done():
        future.set_exception(failure)
