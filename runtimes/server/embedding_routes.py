"""Routes of an encoder: /v1/embeddings."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtimes.contract import OPENAI_PATH
from runtimes.errors import EngineFailure
from runtimes.server.answers import Answer
from runtimes.server.bodies import read_body
from runtimes.server.errors import ApiError, model_not_found
from runtimes.server.lifecycle import Serving
from runtimes.server.schemas import EmbeddingBody

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.embeddings.model import EmbeddingModel


def embedding_routes(serving: Serving) -> list[BaseRoute]:
    """The routes, bound to one server."""

    async def embed(request: Request) -> Response:
        model: Any = serving.require_model()
        body = await read_body(request, EmbeddingBody)
        request.state.user = body.user
        if body.model != serving.environment.model_name:
            raise model_not_found(body.model, served=serving.environment.model_name)
        inputs = await _read_inputs(body, model=model)
        serving.metrics.prompt_tokens.inc(sum(map(len, inputs)))

        async def compute() -> dict[str, Any]:
            async with serving.admission.place():
                return _describe(await _encode(inputs, model=model), inputs=inputs, body=body)

        return Answer(serving=serving, sequences=1, compute=compute)

    return [Route(f"{OPENAI_PATH}/embeddings", embed, methods=["POST"])]


async def _read_inputs(body: EmbeddingBody, *, model: EmbeddingModel) -> list[list[int]]:
    if body.dimensions not in (None, model.dimensions):
        raise ApiError(
            f"This model's vectors have {model.dimensions} dimensions and cannot be shortened.",
            param="dimensions",
        )
    for index, item in enumerate(body.input):
        if isinstance(item, list) and max(item) >= model.inputs.vocabulary:
            raise ApiError(
                f"Token ids of this model lie below {model.inputs.vocabulary}.", param=f"input.{index}"
            )
    inputs = await model.inputs.read(body.input)
    for index, tokens in enumerate(inputs):
        if len(tokens) > model.facts.context_length:
            raise ApiError(
                f"The input has {len(tokens)} tokens, special ones included; this model takes "
                f"{model.facts.context_length}. Split it.",
                param=f"input.{index}",
                code="context_length_exceeded",
            )
    return inputs


async def _encode(inputs: Sequence[Sequence[int]], *, model: EmbeddingModel) -> list[list[float]]:
    try:
        return await model.engine.encode(inputs)
    except EngineFailure as error:
        raise ApiError(
            "The model failed while it answered.", status=500, type="server_error", code="engine_failure"
        ) from error


def _describe(
    vectors: Sequence[list[float]], *, inputs: Sequence[Sequence[int]], body: EmbeddingBody
) -> dict[str, Any]:
    tokens = sum(map(len, inputs))
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector if body.encoding_format == "float" else _to_base64(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _to_base64(vector: Sequence[float]) -> str:
    """Little-endian float32 values, as the protocol has it."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()
