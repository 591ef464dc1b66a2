"""Reading a form with a file: the file goes to disk as it comes, bounded in size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, Generic, TypeVar

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from runtimes.server.errors import ApiError, invalid_body
from runtimes.server.schemas import FormBody

MAX_UPLOAD_BYTES = 26_214_400
"""Of the whole form; OpenAI's own limit for audio files is 25 MB."""
UPLOAD_SECONDS = 120.0
"""A client that takes longer to send its file is let go."""
MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024

B = TypeVar("B", bound=FormBody)


@dataclass(frozen=True)
class Form(Generic[B]):
    """A form whose fields are checked and whose file is on disk."""

    body: B
    file: BinaryIO


@asynccontextmanager
async def read_form(request: Request, kind: type[B]) -> AsyncIterator[Form[B]]:
    """The fields, and the file named `file`, which is gone when the context ends.

    Raises ApiError: 400 for what is wrong in it, 408 when slow, 413 when too large, 415 for another type.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(
            "Send the file as multipart/form-data, in a field named 'file'.",
            status=415,
            code="unsupported_content_type",
        )
    bounded = Request(request.scope, _bounded(request))
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            form = await bounded.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except TimeoutError as error:
        raise ApiError(
            f"The form did not arrive within {UPLOAD_SECONDS:.0f} s.", status=408, code="timeout"
        ) from error
    except ClientDisconnect as error:
        raise ApiError(
            "The connection was closed before the form was complete.", code="incomplete"
        ) from error
    except HTTPException as error:
        raise ApiError(f"The form cannot be read: {error.detail}", code="invalid_multipart") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(
                "The form has no file in the field 'file'.", param="file", code="missing_required_parameter"
            )
        if not file.size:
            raise ApiError("The file is empty.", param="file", code="invalid_value")
        fields: dict[str, str | list[str]] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise ApiError(f"The field {name!r} must be text.", param=name, code="invalid_value")
            elif name.endswith("[]"):
                fields.setdefault(name.removesuffix("[]"), [])
                listed = fields[name.removesuffix("[]")]
                assert isinstance(listed, list)
                listed.append(value)
            elif name in fields:
                raise ApiError(f"The field {name!r} is there twice.", param=name, code="invalid_value")
            else:
                fields[name] = value
        try:
            body = kind.model_validate(fields)
        except ValidationError as error:
            raise invalid_body(error) from error
        yield Form(body, file.file)
    finally:
        await form.close()


def _bounded(request: Request) -> _Counting:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_UPLOAD_BYTES:
        raise _too_large()
    return _Counting(request)


class _Counting:
    """The request's messages, as long as they are not too many."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > MAX_UPLOAD_BYTES:
            raise _too_large()
        return message


def _too_large() -> ApiError:
    return ApiError(
        f"The form is larger than {MAX_UPLOAD_BYTES // 2**20} MiB.",
        status=413,
        param="file",
        code="request_too_large",
        # The rest is not read, so the connection cannot be used again.
        headers={"Connection": "close"},
    )
