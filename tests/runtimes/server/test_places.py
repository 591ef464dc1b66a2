"""Who has a place, and who waits in front of the engine."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from runtimes.contract import ServingEnvironment, Task
from runtimes.server.errors import ApiError
from runtimes.server.lifecycle import Serving


def serving(task: Task) -> Serving:
    return Serving(
        ServingEnvironment(task=task, model_dir="unused", model_name="demo", max_concurrency=2, max_queue=3)
    )


async def test_all_that_an_encoder_admits_waits_where_batches_are_filled() -> None:
    admission = serving(Task.FEATURE_EXTRACTION).admission
    async with AsyncExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.admit(1))
            await stack.enter_async_context(admission.place())

        assert (admission.running, admission.waiting) == (5, 0)
        with pytest.raises(ApiError) as refusal, admission.admit(1):
            pass
    assert refusal.value.status == 429


async def test_what_a_text_model_has_no_place_for_waits_in_front_of_it() -> None:
    admission = serving(Task.TEXT_GENERATION).admission
    async with AsyncExitStack() as stack:
        for _ in range(5):
            stack.enter_context(admission.admit(1))
        for _ in range(2):
            await stack.enter_async_context(admission.place())

        assert (admission.running, admission.waiting) == (2, 3)
