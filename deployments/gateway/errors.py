"""Every refusal of the gateway, in the shape of the OpenAI protocol, so that its SDKs raise their own errors.

Shape and codes: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8. Half a character, which a caller may have escaped (\\ud800), stays the escape it was."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")


class GatewayError(Exception):
    """An answer that is an error. `retry_after` in seconds, None = no hint."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        type: str = "invalid_request_error",
        param: str | None = None,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.close = close
        """The connection cannot be used again: part of the request was not read."""

    def to_json(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def to_event(self) -> bytes:
        """The error as the last event of a stream that has begun."""
        return b"data: " + encode_json(self.to_json()) + b"\n\n"

    def to_response(self, *, request_id: str) -> Response:
        headers = {"x-request-id": request_id, "content-type": "application/json"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.close:
            headers["connection"] = "close"
        return Response(encode_json(self.to_json()), status_code=self.status, headers=headers)


def bad_request(message: str, *, code: str, param: str | None = None) -> GatewayError:
    return GatewayError(400, message, code=code, param=param)


def unauthorized(message: str, *, code: str = "invalid_api_key") -> GatewayError:
    return GatewayError(401, message, code=code, type="authentication_error")


def model_not_found(model: str) -> GatewayError:
    """The same words for a name that nobody has and for one that another organization has."""
    return GatewayError(
        404,
        f"The model '{model}' does not exist or you do not have access to it. "
        "GET /v1/models lists what this key can call.",
        code="model_not_found",
        param="model",
    )


def unavailable(message: str, *, code: str, retry_after: int, status: int = 503) -> GatewayError:
    return GatewayError(status, message, code=code, type="service_unavailable", retry_after=retry_after)


def upstream_failed(message: str, *, status: int = 502) -> GatewayError:
    return GatewayError(status, message, code="upstream_error", type="server_error")
