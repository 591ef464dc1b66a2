"""Routes of a text model: /v1/chat/completions, /v1/completions and, from its own module, /v1/responses."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtimes.contract import OPENAI_PATH
from runtimes.server.answers import Answer, EventStream
from runtimes.server.bodies import read_body
from runtimes.server.chat_schemas import ChatBody
from runtimes.server.chat_shape import ChatShape
from runtimes.server.completion_shape import CompletionShape
from runtimes.server.errors import ApiError
from runtimes.server.generation import (
    Job,
    make_job,
    read_prompt,
    refuse_unknown_tokens,
    run_job,
    text_model_for,
)
from runtimes.server.lifecycle import Serving
from runtimes.server.responses_routes import responses_routes
from runtimes.server.schemas import CompletionBody, GenerationBody
from runtimes.server.tool_use import make_rules
from runtimes.text.model import Piece, TextModel


def text_routes(serving: Serving) -> list[BaseRoute]:
    """The routes, bound to one server."""

    async def chat(request: Request) -> Response:
        arrived = perf_counter()
        serving.require_model()  # so that a body is not read in vain
        body = await read_body(request, ChatBody)
        model = text_model_for(body.model, serving=serving)
        rules = await make_rules(
            tools=body.tools,
            choice=body.tool_choice,
            parallel=body.parallel_tool_calls,
            response_format=body.response_format,
            model=model,
        )
        prompt = await read_prompt(body.messages, tools=rules.tools, field="messages", model=model)
        job = make_job(
            body,
            prompts=[prompt],
            prompt_field="messages",
            token_limit=body.token_limit,
            limit_field="max_tokens" if body.max_completion_tokens is None else "max_completion_tokens",
            model=model,
            arrived=arrived,
            grammar=rules.grammar,
            marks=rules.marks,
        )
        shape = ChatShape(
            rules,
            tells_tokens=body.told_logprobs is not None,
            token_bytes=model.grammars.token_bytes,
        )
        return _respond(body, job=job, shape=shape, model=model, serving=serving, request=request)

    async def complete(request: Request) -> Response:
        arrived = perf_counter()
        serving.require_model()
        body = await read_body(request, CompletionBody)
        model = text_model_for(body.model, serving=serving)
        prompts = [
            await model.prompts.read_text(prompt) if isinstance(prompt, str) else prompt
            for prompt in body.prompt
        ]
        for index, prompt in enumerate(prompts):
            refuse_unknown_tokens(prompt, field=f"prompt.{index}", model=model)
        # The protocol's default for plain completions is 16 tokens, not the whole context.
        room = min(model.facts.context_length - len(prompt) for prompt in prompts)
        limit = body.token_limit or max(min(16, room), 1)
        job = make_job(
            body, prompts=prompts, prompt_field="prompt", token_limit=limit, model=model, arrived=arrived
        )
        shape = CompletionShape(
            echoes=[
                _echo(prompt, model=model) if body.echo else ""
                for prompt in body.prompt
                for _ in range(body.n)
            ],
            tells_tokens=body.told_logprobs is not None,
            token_bytes=model.grammars.token_bytes,
        )
        return _respond(body, job=job, shape=shape, model=model, serving=serving, request=request)

    return [
        Route(f"{OPENAI_PATH}/chat/completions", chat, methods=["POST"]),
        Route(f"{OPENAI_PATH}/completions", complete, methods=["POST"]),
        *responses_routes(serving),
    ]


class Shape(Protocol):
    """How one kind of answer is written. Holds what one request needs for it."""

    id_prefix: str
    object: str
    chunk_object: str

    def chunks(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """The choices of the events that this piece makes, one for each event."""

    def whole(self, chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The choice of a whole answer that these chunks make together."""


@dataclass
class Tally:
    """What one request has used so far."""

    prompt_tokens: int
    completion_tokens: int = 0

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def _respond(
    body: GenerationBody, *, job: Job, shape: Shape, model: TextModel, serving: Serving, request: Request
) -> Response:
    if len(job.requests) > serving.admission.largest:
        raise ApiError(
            f"This request has {len(job.requests)} answers (prompts times n); "
            f"at most {serving.admission.largest} fit the queue.",
            param="n",
        )
    request.state.user = body.user or body.safety_identifier
    head = {
        "id": f"{shape.id_prefix}-{uuid4().hex}",
        "object": shape.chunk_object if body.stream else shape.object,
        "created": int(time.time()),
        "model": body.model,
    }
    tally = Tally(job.prompt_tokens)
    pieces = lambda: run_job(job, model=model, serving=serving)  # noqa: E731
    held: dict[str, Any] = {"serving": serving, "sequences": len(job.requests)}
    if not body.stream:
        return Answer(compute=lambda: _collect(pieces, head=head, shape=shape, tally=tally), **held)
    return EventStream(
        events=lambda: _events(pieces, head=head, shape=shape, tally=tally, include_usage=body.include_usage),
        **held,
    )


Pieces = Callable[[], AsyncGenerator[tuple[int, Piece], None]]


async def _collect(pieces: Pieces, *, head: dict[str, Any], shape: Shape, tally: Tally) -> dict[str, Any]:
    chunks: dict[int, list[dict[str, Any]]] = {}
    async with aclosing(pieces()) as news:
        async for index, piece in news:
            tally.completion_tokens += piece.tokens
            chunks.setdefault(index, []).extend(shape.chunks(index, piece))
    choices = [shape.whole(chunks[index]) for index in sorted(chunks)]
    return {**head, "choices": choices, "usage": tally.usage()}


async def _events(
    pieces: Pieces, *, head: dict[str, Any], shape: Shape, tally: Tally, include_usage: bool
) -> AsyncGenerator[dict[str, Any], None]:
    # With usage asked for, every event but the last says null.
    no_usage: dict[str, Any] = {"usage": None} if include_usage else {}
    async with aclosing(pieces()) as news:
        async for index, piece in news:
            tally.completion_tokens += piece.tokens
            for chunk in shape.chunks(index, piece):
                yield {**head, "choices": [chunk], **no_usage}
    if include_usage:
        yield {**head, "choices": [], "usage": tally.usage()}


def _echo(prompt: str | Sequence[int], *, model: TextModel) -> str:
    return prompt if isinstance(prompt, str) else model.prompts.decode(prompt)
