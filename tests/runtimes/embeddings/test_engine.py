"""The thread that computes what has queued, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from runtimes.embeddings.engine import EncoderEngine
from runtimes.packing.queue import FairQueue


class Lengths:
    """An encoder whose vectors are the lengths of its inputs."""

    batch_tokens = 100

    def __call__(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor([[float(len(sequence))] for sequence in sequences])


async def test_it_answers_on_after_all_that_waited_have_left_in_one_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = EncoderEngine(Lengths())  # type: ignore[arg-type]
    take, times = FairQueue.take, iter([True])

    def left_just_now(queue: Any, *, tokens: int) -> Any:
        return [] if next(times, False) else take(queue, tokens=tokens)

    monkeypatch.setattr(FairQueue, "take", left_just_now)
    engine.start(on_failure=lambda error: None)
    try:
        vectors = await asyncio.wait_for(engine.encode([[1, 2, 3], [1]]), timeout=20)
    finally:
        engine.stop()
    assert [list(vector) for vector in vectors] == [[3.0], [1.0]]
