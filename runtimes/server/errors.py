"""Errors as the OpenAI protocol shows them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

INVALID = "invalid_request_error"

_FIELD = re.compile(r"([a-z0-9_]+(?:\.[a-z0-9_]+)*): ")


class ApiError(Exception):
    """An answer other than the one asked for. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer, and of an event in a stream that has begun."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def model_not_found(wanted: str, *, served: str) -> ApiError:
    return ApiError(
        f"The model {wanted!r} is not served here; this server answers for {served!r}.",
        status=404,
        param="model",
        code="model_not_found",
    )


def misdirected() -> ApiError:
    return ApiError(
        "This server belongs to another deployment than the one that the request is meant for.",
        status=421,
        code="misdirected",
    )


def too_busy(*, retry_after: int) -> ApiError:
    return ApiError(
        f"All places in the queue are taken; try again in {retry_after} s.",
        status=429,
        type="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(retry_after)},
    )


def waited_too_long(seconds: float, *, retry_after: int) -> ApiError:
    return ApiError(
        f"The request waited {seconds:g} s, which is all the time it had, and was not begun; "
        f"try again in {retry_after} s.",
        status=429,
        type="rate_limit_error",
        code="queue_timeout",
        headers={"Retry-After": str(retry_after)},
    )


def took_too_long(seconds: float) -> ApiError:
    return ApiError(
        f"The answer was not complete after {seconds:g} s, which is all the time the request had; "
        "ask for less at once, or give it more time.",
        status=504,
        type="server_error",
        code="deadline_exceeded",
        # Read by OpenAI's SDKs: the same again would take as long again.
        headers={"x-should-retry": "false"},
    )


def engine_failed() -> ApiError:
    return ApiError(
        "The model failed while it answered.", status=500, type="server_error", code="engine_failure"
    )


def unavailable(reason: str, *, retry_after: int = 1) -> ApiError:
    return ApiError(
        reason, status=503, type="server_error", code="unavailable", headers={"Retry-After": str(retry_after)}
    )


def internal(request_id: str) -> ApiError:
    return ApiError(
        f"The server failed to answer; the log has the details under request {request_id}.",
        status=500,
        type="server_error",
        code="internal_error",
    )


def invalid_body(error: ValidationError) -> ApiError:
    """The first fault of a request body as one sentence that names the field."""
    fault = error.errors(include_url=False)[0]
    param = name_field(fault["loc"])
    match fault["type"]:
        case "json_invalid":
            return ApiError(f"The body is not valid JSON: {fault['ctx']['error']}.", code="invalid_json")
        case "extra_forbidden":
            return ApiError(
                f"Unsupported field {param!r}: this server does not honor it, so it must be left out.",
                param=param,
                code="unsupported_parameter",
            )
        case "missing":
            return ApiError(
                f"The field {param!r} is required.", param=param, code="missing_required_parameter"
            )
        case "value_error":
            # Raised by a validator of ours, whose sentence is complete.
            sentence = str(fault["ctx"]["error"])
            if named := _FIELD.match(sentence):
                # The validator looked at several fields; the sentence begins with the one to change.
                param, sentence = name_field([*fault["loc"], named[1]]), sentence[named.end() :]
            return ApiError(f"{param}: {sentence}" if param else sentence, param=param, code="invalid_value")
    return ApiError(
        f"Invalid value for {param!r}: {fault['msg']}; got {_shorten(fault['input'])}."
        if param
        else f"Invalid body: {fault['msg']}.",
        param=param,
        code="invalid_value",
    )


def name_field(place: Sequence[str | int]) -> str | None:
    """The name of a field in `param`: keys and positions with dots between; None for the whole body."""
    return ".".join(map(str, place)) or None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
