"""Routes of an encoder: /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
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

        async def compute() -> bytes:
            async with serving.admission.place():
                vectors = await _encode(inputs, model=model)
            if body.dimensions is not None:
                vectors = shorten(vectors, dimensions=body.dimensions)
            # Not by the standard library's encoder, which takes longer over the digits than the model over
            # the text.
            return orjson.dumps(
                _describe(vectors, inputs=inputs, body=body), option=orjson.OPT_SERIALIZE_NUMPY
            )

        return Answer(serving=serving, sequences=1, compute=compute)

    return [Route(f"{OPENAI_PATH}/embeddings", embed, methods=["POST"])]


async def _read_inputs(body: EmbeddingBody, *, model: EmbeddingModel) -> list[list[int]]:
    if body.dimensions not in (None, model.dimensions, *model.shorter_dimensions):
        raise ApiError(
            f"This model's vectors have {model.dimensions} dimensions and {_possible(model)}.",
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


async def _encode(inputs: Sequence[Sequence[int]], *, model: EmbeddingModel) -> NDArray[np.float32]:
    try:
        return await model.engine.encode(inputs)
    except EngineFailure as error:
        raise ApiError(
            "The model failed while it answered.", status=500, type="server_error", code="engine_failure"
        ) from error


def _possible(model: EmbeddingModel) -> str:
    match model.shorter_dimensions:
        case range():
            return "can be shortened to any smaller number"
        case ():
            return "cannot be shortened"
    return "can be shortened to " + ", ".join(map(str, model.shorter_dimensions))


def shorten(vectors: NDArray[np.float32], *, dimensions: int) -> NDArray[np.float32]:
    """The first `dimensions` values of each, and of length 1 again: [inputs, dimensions]."""
    cut = np.ascontiguousarray(vectors[:, :dimensions])
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    result: NDArray[np.float32] = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return result


def _describe(
    vectors: NDArray[np.float32], *, inputs: Sequence[Sequence[int]], body: EmbeddingBody
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


def _to_base64(vector: NDArray[np.float32]) -> str:
    """Little-endian float32 values, as the protocol has it."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
