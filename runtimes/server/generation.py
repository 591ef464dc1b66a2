"""Runs the sequences of one text request together and says what each has to tell, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter

from runtimes.errors import EngineFailure
from runtimes.server.errors import ApiError
from runtimes.server.lifecycle import Serving
from runtimes.server.schemas import GenerationBody
from runtimes.text.engine import GenerationRequest, Sampling
from runtimes.text.model import Piece, TextModel


@dataclass(frozen=True, kw_only=True)
class Job:
    """A validated text request: its sequences, in the order of the answer's choices."""

    requests: Sequence[GenerationRequest]
    prompts: Sequence[Sequence[int]]
    """The prompts as they count for usage: once each, however many answers were asked for."""
    stop: Sequence[str]
    arrived: float
    """`perf_counter()` when the request came."""

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


def make_job(
    body: GenerationBody,
    *,
    prompts: Sequence[Sequence[int]],
    prompt_field: str,
    token_limit: int | None,
    model: TextModel,
    arrived: float,
) -> Job:
    """Checks the prompts against the context and spreads `n`. Raises ApiError."""
    requests = []
    for prompt in prompts:
        max_tokens = _fit(
            len(prompt),
            token_limit=token_limit,
            context_length=model.facts.context_length,
            field=prompt_field,
        )
        for number in range(body.n):
            sampling = sampling_of(body, defaults=model.defaults, number=number)
            requests.append(GenerationRequest(prompt=prompt, max_tokens=max_tokens, sampling=sampling))
    return Job(requests=requests, prompts=prompts, stop=body.stop, arrived=arrived)


def sampling_of(body: GenerationBody, *, defaults: Sampling, number: int) -> Sampling:
    """The body's settings over the model's defaults.

    The answers of one request get seeds that follow each other.
    """
    return replace(
        defaults,
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        seed=None if body.seed is None else (body.seed + number) % 2**63,
    )


def _fit(prompt_tokens: int, *, token_limit: int | None, context_length: int, field: str) -> int:
    if prompt_tokens == 0:
        raise ApiError("The prompt has no tokens.", param=field, code="invalid_value")
    room = context_length - prompt_tokens
    if room < 1 or (token_limit or 1) > room:
        wanted = f" and {token_limit} for the answer" if token_limit else ""
        raise ApiError(
            f"The context holds {context_length} tokens, but the prompt has {prompt_tokens}{wanted}. "
            "Shorten the prompt or ask for fewer tokens.",
            param=field if room < 1 else "max_tokens",
            code="context_length_exceeded",
        )
    return token_limit or room


async def run_job(job: Job, *, model: TextModel, serving: Serving) -> AsyncGenerator[tuple[int, Piece], None]:
    """(index of the choice, news of it) until all are finished; closing it stops all computation.

    The request must have been admitted. Raises ApiError when the engine fails.
    """
    news: asyncio.Queue[tuple[int, Piece] | EngineFailure] = asyncio.Queue()
    serving.metrics.prompt_tokens.inc(job.prompt_tokens)
    tasks = [
        asyncio.create_task(_run_one(index, request, job=job, model=model, serving=serving, news=news))
        for index, request in enumerate(job.requests)
    ]
    try:
        unfinished = len(tasks)
        while unfinished:
            item = await news.get()
            if isinstance(item, EngineFailure):
                raise ApiError(
                    "The model failed while it answered.",
                    status=500,
                    type="server_error",
                    code="engine_failure",
                ) from item
            unfinished -= item[1].finish_reason is not None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run_one(
    index: int,
    request: GenerationRequest,
    *,
    job: Job,
    model: TextModel,
    serving: Serving,
    news: asyncio.Queue[tuple[int, Piece] | EngineFailure],
) -> None:
    last = None
    try:
        async with serving.admission.place(), aclosing(model.answer(request, stop=job.stop)) as pieces:
            async for piece in pieces:
                if piece.tokens:
                    now = perf_counter()
                    if last is None:
                        serving.metrics.first_token_seconds.observe(now - job.arrived)
                    else:
                        serving.metrics.inter_token_seconds.observe(now - last)
                    last = now
                    serving.metrics.completion_tokens.inc(piece.tokens)
                news.put_nowait((index, piece))
    except EngineFailure as error:
        news.put_nowait(error)
