"""Runs the sequences of one text request together and says what each has to tell, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from runtimes.errors import EngineFailure
from runtimes.server.chat_schemas import ChatMessage
from runtimes.server.errors import ApiError, engine_failed, model_not_found
from runtimes.server.lifecycle import Serving
from runtimes.server.schemas import GenerationBody
from runtimes.text.engine import Feature, GenerationRequest, Sampling
from runtimes.text.model import Piece, TextModel
from runtimes.text.prompts import PromptRefused
from runtimes.text.tool_formats import Tool

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.text.grammar import Grammar


@dataclass(frozen=True, kw_only=True)
class Job:
    """A validated text request: its sequences, in the order of the answer's choices."""

    requests: Sequence[GenerationRequest]
    prompts: Sequence[Sequence[int]]
    """The prompts as they count for usage: once each, however many answers were asked for."""
    stop: Sequence[str]
    marks: Sequence[str]
    """Special tokens that stay in the text."""
    arrived: float
    """`perf_counter()` when the request came."""

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


def text_model_for(wanted: str, *, serving: Serving) -> TextModel:
    """The model, for a request that asks for it by this name. Raises ApiError."""
    model = serving.require_model()
    if wanted != serving.environment.model_name:
        raise model_not_found(wanted, served=serving.environment.model_name)
    assert isinstance(model, TextModel)
    return model


async def read_prompt(
    messages: Sequence[ChatMessage], *, tools: Sequence[Tool], field: str, model: TextModel
) -> list[int]:
    """Token ids of a conversation. Raises ApiError."""
    if not model.prompts.has_chat_template:
        raise ApiError("This model has no chat template; use /v1/completions.", param=field)
    try:
        prompt = await model.prompts.read_chat([message.for_template() for message in messages], tools=tools)
    except PromptRefused as error:
        raise ApiError(str(error), param=field) from error
    refuse_unknown_tokens(prompt, field=field, model=model)
    return prompt


def refuse_unknown_tokens(prompt: Sequence[int], *, field: str, model: TextModel) -> None:
    """Raises ApiError 400 for tokens that the model has no embedding of: a caller's own, or a tokenizer's."""
    if max(prompt, default=0) >= model.prompts.vocabulary:
        raise ApiError(f"Token ids of this model lie below {model.prompts.vocabulary}.", param=field)


def make_job(
    body: GenerationBody,
    *,
    prompts: Sequence[Sequence[int]],
    prompt_field: str,
    token_limit: int | None,
    model: TextModel,
    arrived: float,
    grammar: Grammar | None = None,
    marks: Sequence[str] = (),
    limit_field: str = "max_tokens",
) -> Job:
    """Checks the prompts against the context and the body against what the engine can do, and spreads `n`.

    Raises ApiError.
    """
    check_supported(body, constrained=grammar is not None, model=model)
    requests = []
    for prompt in prompts:
        max_tokens = _fit(
            len(prompt),
            token_limit=token_limit,
            context_length=model.facts.context_length,
            field=prompt_field,
            limit_field=limit_field,
        )
        for number in range(body.n):
            sampling = sampling_of(body, defaults=model.defaults, number=number)
            requests.append(
                GenerationRequest(
                    prompt=prompt,
                    max_tokens=max_tokens,
                    sampling=sampling,
                    constraint=grammar.constrain() if grammar is not None else None,
                )
            )
    return Job(requests=requests, prompts=prompts, stop=body.stop, marks=marks, arrived=arrived)


def check_supported(body: GenerationBody, *, constrained: bool, model: TextModel) -> None:
    """Raises ApiError 400 that names the field which this model's engine cannot honor."""
    defaults = model.defaults
    needs = {
        "seed": (Feature.SEED, body.seed is not None),
        "frequency_penalty": (Feature.PENALTIES, body.frequency_penalty != 0),
        "presence_penalty": (Feature.PENALTIES, body.presence_penalty != 0),
        "repetition_penalty": (
            Feature.PENALTIES,
            body.repetition_penalty not in (None, defaults.repetition_penalty),
        ),
        "min_p": (Feature.MIN_P, body.min_p != 0),
        "logit_bias": (Feature.LOGIT_BIAS, bool(body.logit_bias)),
        "logprobs": (Feature.LOGPROBS, body.told_logprobs is not None),
        body.constrained_by: (Feature.CONSTRAINT, constrained),
    }
    for field, (feature, is_needed) in needs.items():
        if is_needed and feature not in model.engine.supports:
            raise ApiError(
                f"The engine of this deployment, {model.engine.name}, cannot honor {field}; leave it out.",
                param=field,
                code="unsupported_parameter",
            )
    for token in body.logit_bias:
        if int(token) >= model.prompts.vocabulary:
            raise ApiError(
                f"Token ids of this model lie below {model.prompts.vocabulary}.",
                param=f"logit_bias.{token}",
                code="invalid_value",
            )


def sampling_of(body: GenerationBody, *, defaults: Sampling, number: int) -> Sampling:
    """The body's settings over the model's defaults.

    The answers of one request get seeds that follow each other.
    """
    return replace(
        defaults,
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        top_k=defaults.top_k if body.top_k is None else body.top_k,
        min_p=body.min_p,
        repetition_penalty=(
            defaults.repetition_penalty if body.repetition_penalty is None else body.repetition_penalty
        ),
        logit_bias={int(token): bias for token, bias in body.logit_bias.items()},
        logprobs=body.told_logprobs,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        seed=None if body.seed is None else (body.seed + number) % 2**63,
    )


def _fit(
    prompt_tokens: int, *, token_limit: int | None, context_length: int, field: str, limit_field: str
) -> int:
    if prompt_tokens == 0:
        raise ApiError("The prompt has no tokens.", param=field, code="invalid_value")
    room = context_length - prompt_tokens
    if room < 1 or (token_limit or 1) > room:
        wanted = f" and {token_limit} for the answer" if token_limit else ""
        raise ApiError(
            f"The context holds {context_length} tokens, but the prompt has {prompt_tokens}{wanted}. "
            "Shorten the prompt or ask for fewer tokens.",
            param=field if room < 1 else limit_field,
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
                raise engine_failed() from item
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
        async with (
            serving.admission.place(),
            aclosing(model.answer(request, stop=job.stop, marks=job.marks)) as pieces,
        ):
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
