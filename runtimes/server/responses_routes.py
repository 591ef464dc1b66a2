"""The route /v1/responses of a text model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtimes.contract import OPENAI_PATH
from runtimes.server.answers import Answer, EventStream
from runtimes.server.bodies import read_body
from runtimes.server.errors import ApiError
from runtimes.server.generation import Job, make_job, read_prompt, run_job, text_model_for
from runtimes.server.lifecycle import Serving
from runtimes.server.responses_schemas import ResponseBody
from runtimes.server.responses_shape import ResponseShape
from runtimes.server.tool_use import make_rules
from runtimes.text.model import TextModel


def responses_routes(serving: Serving) -> list[BaseRoute]:
    """The route, bound to one server."""

    async def respond(request: Request) -> Response:
        arrived = perf_counter()
        serving.require_model()
        body = await read_body(request, ResponseBody)
        model = text_model_for(body.model, serving=serving)
        request.state.user = body.user or body.safety_identifier
        rules = await make_rules(
            tools=[tool.for_chat() for tool in body.tools],
            choice=body.tool_choice.for_chat() if body.tool_choice is not None else None,
            parallel=body.parallel_tool_calls,
            response_format=body.text.format.for_chat() if body.text.format is not None else None,
            model=model,
            format_place=("text", "format", "schema"),
            flat_tools=True,
        )
        prompt = await read_prompt(body.messages(), tools=rules.tools, field="input", model=model)
        job = make_job(
            body.sampling(),
            prompts=[prompt],
            prompt_field="input",
            token_limit=body.max_output_tokens,
            limit_field="max_output_tokens",
            model=model,
            arrived=arrived,
            grammar=rules.grammar,
            marks=rules.marks,
        )
        shape = ResponseShape(
            body,
            rules=rules,
            prompt_tokens=job.prompt_tokens,
            token_bytes=model.grammars.token_bytes,
        )
        if body.stream:
            return EventStream(
                serving=serving,
                sequences=1,
                events=lambda: _events(job, shape=shape, model=model, serving=serving),
                ends_with_done=False,
            )
        return Answer(
            serving=serving,
            sequences=1,
            compute=lambda: _collect(job, shape=shape, model=model, serving=serving),
        )

    async def not_stored(request: Request) -> Response:
        raise ApiError(
            "Responses are not stored here, so there is none to get, delete or cancel.",
            status=404,
            code="not_found",
        )

    return [
        Route(f"{OPENAI_PATH}/responses", respond, methods=["POST"]),
        Route(f"{OPENAI_PATH}/responses/{{id:path}}", not_stored, methods=["GET", "POST", "DELETE"]),
    ]


async def _events(
    job: Job, *, shape: ResponseShape, model: TextModel, serving: Serving
) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(run_job(job, model=model, serving=serving)) as news:
        begun = False
        async for _, piece in news:
            if not begun:
                # Not before there is an answer: an error before it is an answer of its own.
                begun = True
                for event in shape.begin():
                    yield event
            for event in shape.read(piece):
                yield event


async def _collect(job: Job, *, shape: ResponseShape, model: TextModel, serving: Serving) -> dict[str, Any]:
    async with aclosing(_events(job, shape=shape, model=model, serving=serving)) as events:
        async for _ in events:
            pass
    return shape.response
