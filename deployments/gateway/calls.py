"""What a request asks for: its body within the limit, the model it names, its id.

A body is read whole before a replica is chosen, because the model's name is in it and because a call that
failed on one replica is sent again to another.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from deployments.gateway.errors import GatewayError, bad_request, encode_json
from marketplace.ids import make_public_id

DRAIN_SECONDS = 10.0
"""How long what is left of a refused body is read and thrown away, so that the refusal can be read."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# What a runtime needs of a request. A list of what passes, so that no secret can pass by a new name.
_PASSED = (
    "accept",
    "accept-language",
    "openai-beta",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-timeout",
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that names a model."""

    model: str
    content_type: str
    body: bytes
    _model_span: tuple[int, int] | None = None
    """Of a multipart body: where the model's name stands."""

    def body_for(self, name: str) -> bytes:
        """The body as the runtime must see it: naming the model as the runtime knows it."""
        if name == self.model:
            return self.body
        if self._model_span:
            start, end = self._model_span
            return self.body[:start] + name.encode() + self.body[end:]
        return encode_json(json.loads(self.body) | {"model": name})


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id if it can be used as one, else a new id."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else make_public_id("req")


def headers_for_runtime(headers: Mapping[str, str], *, request_id: str) -> dict[str, str]:
    """Request headers that a replica gets: never credentials, nor anything about the connection."""
    passed = {name: headers[name] for name in _PASSED if headers.get(name, "\xff").isascii()}
    # Answers are read on their way (usage, ends of events), so they must not be compressed.
    return passed | {"accept-encoding": "identity", "x-request-id": request_id}


async def read_body(request: Request, *, limit: int) -> bytes:
    """The whole body. Raises GatewayError 413 over `limit` bytes, as soon as it is known to be."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise await _too_large(request, limit=limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise await _too_large(request, limit=limit)
    return bytes(body)


def read_call(body: bytes, *, content_type: str) -> Call:
    """The call in a body, JSON or multipart. Raises GatewayError 400 that says what is wrong with it."""
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        return _read_multipart(body, content_type=content_type, boundary=options.get(b"boundary", b""))
    if kind in (b"application/json", b""):
        return _read_json(body)
    raise bad_request(
        f"The content type '{kind.decode('latin-1')}' is not understood: send application/json, "
        "or multipart/form-data for files.",
        code="unsupported_content_type",
    )


def _read_json(body: bytes) -> Call:
    try:
        value = json.loads(body.decode())
    except UnicodeDecodeError as error:
        raise bad_request(
            f"The body is not valid UTF-8: byte {error.start} is 0x{body[error.start]:02x}.",
            code="invalid_utf8",
        ) from error
    except ValueError as error:
        raise bad_request(f"The body is not valid JSON: {error}.", code="invalid_json") from error
    except RecursionError as error:
        raise bad_request("The body is nested too deeply.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return Call(model=_checked_model(value.get("model")), content_type="application/json", body=body)


def _read_multipart(body: bytes, *, content_type: str, boundary: bytes) -> Call:
    """Finds the field `model` and where its value stands; the rest of the body is passed on as it is."""
    header_name, header_value, is_model = bytearray(), bytearray(), False
    spans: list[tuple[int, int]] = []
    finished = False

    def end_of_header() -> None:
        nonlocal is_model
        if bytes(header_name).lower() == b"content-disposition":
            is_model = parse_options_header(bytes(header_value))[1].get(b"name") == b"model"
        header_name.clear()
        header_value.clear()

    def begin_part() -> None:
        nonlocal is_model
        is_model = False

    def end_of_body() -> None:
        nonlocal finished
        finished = True

    def data(source: bytes, start: int, end: int) -> None:
        if is_model:
            spans.append((start, end))

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin_part,
                "on_header_field": lambda source, start, end: header_name.extend(source[start:end]),
                "on_header_value": lambda source, start, end: header_value.extend(source[start:end]),
                "on_header_end": end_of_header,
                "on_part_data": data,
                "on_end": end_of_body,
            },
        )
        parser.write(body)  # in one piece, so that the positions are those in the body
    except FormParserError as error:
        raise bad_request(f"The multipart body cannot be read: {error}", code="invalid_multipart") from error
    if not finished:
        raise bad_request("The multipart body ends before its last boundary.", code="invalid_multipart")
    if not spans:
        return Call(model=_checked_model(None), content_type=content_type, body=body)
    start, end = spans[0][0], spans[-1][1]
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError as error:
        raise bad_request(
            "The field 'model' is not valid UTF-8.", code="invalid_utf8", param="model"
        ) from error
    return Call(model=_checked_model(model), content_type=content_type, body=body, _model_span=(start, end))


def _checked_model(model: object) -> str:
    if model is None or model == "":
        raise bad_request(
            "The body names no model. Set 'model' to the name of a deployment; GET /v1/models lists them.",
            code="missing_model",
            param="model",
        )
    if not isinstance(model, str):
        raise bad_request(
            "'model' must be a string: the name of a deployment.", code="invalid_model", param="model"
        )
    return model


async def _too_large(request: Request, *, limit: int) -> GatewayError:
    """The refusal, once the caller has stopped sending or has had time enough to."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in request.stream():
                pass
    except (TimeoutError, ClientDisconnect):
        pass
    return GatewayError(
        413,
        f"The body is larger than {limit} bytes, the most that this gateway takes.",
        code="request_too_large",
        close=True,
    )
