"""Routes that every server has: /live, /ready, /metrics, /info and /v1/models."""

from __future__ import annotations

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from runtimes.contract import INFO_PATH, LIVE_PATH, METRICS_PATH, OPENAI_PATH, READY_PATH
from runtimes.server.errors import model_not_found
from runtimes.server.lifecycle import Phase, Serving
from runtimes.server.memory import peak_memory


def probe_routes(serving: Serving) -> list[BaseRoute]:
    """The routes, bound to one server."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(request: Request) -> Response:
        return JSONResponse(
            {"status": serving.phase.value}, status_code=200 if serving.phase is Phase.READY else 503
        )

    async def metrics(request: Request) -> Response:
        return Response(serving.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def info(request: Request) -> Response:
        return JSONResponse(describe(serving))

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_card(serving)]})

    async def model(request: Request) -> Response:
        wanted = request.path_params["model"]
        if wanted != serving.environment.model_name:
            raise model_not_found(wanted, served=serving.environment.model_name)
        return JSONResponse(_card(serving))

    return [
        Route(LIVE_PATH, live),
        Route(READY_PATH, ready),
        Route(METRICS_PATH, metrics),
        Route(INFO_PATH, info),
        Route(f"{OPENAI_PATH}/models", models),
        Route(f"{OPENAI_PATH}/models/{{model:path}}", model),
    ]


def describe(serving: Serving) -> dict[str, Any]:
    """The JSON of /info; what is only known of a loaded model is null before."""
    environment = serving.environment
    facts = serving.model.facts if serving.model is not None else None
    return {
        "model": environment.model_name,
        "revision": environment.model_revision,
        "task": environment.task.value,
        "phase": serving.phase.value,
        "adapter": bool(environment.adapter_dir),
        "engine": facts and facts.engine,
        "engines_measured": facts and {name: round(rate, 1) for name, rate in facts.measured.items()},
        "device": facts and facts.device,
        "precision": facts and facts.dtype,
        "parameters": facts and facts.parameters,
        "context_length": facts and facts.context_length,
        "packing": facts and facts.packing,
        "max_concurrency": environment.max_concurrency,
        "max_queue": environment.max_queue,
        "memory": {
            "predicted_bytes": facts and facts.predicted_bytes,
            "measured_peak_bytes": facts and peak_memory(),
        },
        "load_seconds": round(serving.load_seconds, 3),
        "warm_up_seconds": round(serving.warm_up_seconds, 3),
    }


def _card(serving: Serving) -> dict[str, Any]:
    return {
        "id": serving.environment.model_name,
        "object": "model",
        "created": serving.created,
        "owned_by": "marketplace",
    }
