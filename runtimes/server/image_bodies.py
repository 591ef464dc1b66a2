"""Bodies of image requests, as far as they are honored, and pictures that come with them."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal, Self

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field, field_validator, model_validator
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from runtimes.server.errors import ApiError
from runtimes.server.schemas import Body

MAX_PICTURES = 10
MAX_FORM_BYTES = 32 * 2**20
MAX_INPUT_PIXELS = 16 * 2**20
"""Of a picture that is sent in: a small file can unpack to gigabytes."""
INPUT_FORMATS = ("PNG", "JPEG", "WEBP")
EFFORT = {"low": 0.5, "medium": 1.0, "standard": 1.0, "auto": 1.0, "high": 1.5, "hd": 1.5}
"""Share of the usual steps by `quality`."""


class ImageBody(Body):
    """POST /v1/images/generations. What is not in the OpenAI protocol: seed, negative_prompt, steps,
    guidance, the names of styles, and progress events.
    """

    neutral: ClassVar = {
        "background": ("auto", "opaque"),
        "moderation": ("auto",),
        "input_fidelity": ("auto",),
    }

    model: Annotated[str, Field(min_length=1)]
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    size: str = "auto"
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] = "auto"
    response_format: str = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    style: str | None = None
    stream: bool = False
    partial_images: Annotated[int, Field(ge=0, le=3)] = 0
    progress: bool = False
    """Whether a stream also tells of each step."""
    user: str | None = None
    safety_identifier: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    negative_prompt: Annotated[str, Field(max_length=32_000)] | None = None
    steps: Annotated[int, Field(ge=1, le=150)] | None = None
    guidance: Annotated[float, Field(ge=0, le=30)] | None = None

    @field_validator("size")
    @classmethod
    def check_size(cls, value: str) -> str:
        if value != "auto" and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", value):
            raise ValueError('should be "auto" or width and height in pixels such as "512x512"')
        return value

    @field_validator("response_format")
    @classmethod
    def check_response_format(cls, value: str) -> str:
        if value == "url":
            raise ValueError(
                'pictures are sent in the answer and kept nowhere, so there is no URL; use "b64_json"'
            )
        if value != "b64_json":
            raise ValueError('should be "b64_json"')
        return value

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        if self.output_compression is not None and self.output_format == "png":
            raise ValueError('output_compression needs "output_format": "jpeg" or "webp"; PNG is lossless')
        if not self.stream and (self.partial_images or self.progress):
            raise ValueError('partial_images and progress need "stream": true')
        return self

    @property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels; None for auto."""
        if self.size == "auto":
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class EditBody(ImageBody):
    """POST /v1/images/edits, the fields that are no files. strength is not in the OpenAI protocol."""

    strength: Annotated[float, Field(gt=0, le=1)] = 0.75
    """How far to go from the picture: near 0 it stays as it is, 1 keeps nearly nothing."""


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The multipart body, whose files are closed at the end.

    Raises ApiError: 400 for what is no form, 413 when it is too large.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(
            "This route takes a picture, so its body must be multipart/form-data.",
            code="invalid_content_type",
        )
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_FORM_BYTES:
            raise ApiError(
                f"The body is larger than {MAX_FORM_BYTES // 2**20} MiB.",
                status=413,
                code="request_too_large",
                headers={"Connection": "close"},
            )
        return message

    form = Request(request.scope, receive).form(max_files=4, max_fields=40, max_part_size=256 * 2**10)
    try:
        async with form as fields:
            yield fields
    except HTTPException as error:
        raise ApiError(f"The form cannot be read: {error.detail}", code="invalid_form") from error
    except ClientDisconnect as error:
        raise ApiError(
            "The connection was closed before the body was complete.", code="incomplete"
        ) from error


async def read_edit(form: FormData) -> tuple[dict[str, Any], Image.Image, Image.Image | None]:
    """(the other fields, the picture in RGB, the mask or None: white where the picture may change)."""
    fields: dict[str, Any] = {}
    pictures: list[Image.Image] = []
    mask = None
    for name, value in form.multi_items():
        field = name.removesuffix("[]")
        if field in ("image", "mask"):
            if isinstance(value, str):
                raise ApiError(f"The field {field!r} must be a file.", param=field, code="invalid_value")
            picture = open_picture(await value.read(), field=field)
            if field == "image":
                pictures.append(picture.convert("RGB"))
            else:
                mask = _read_mask(picture)
        elif not isinstance(value, str):
            raise ApiError(f"Unsupported file {name!r}.", param=name, code="unsupported_parameter")
        elif name in fields:
            raise ApiError(f"The field {name!r} is there twice.", param=name, code="invalid_value")
        else:
            fields[name] = value
    if len(pictures) != 1:
        raise ApiError(
            f"One picture is changed at a time, in the field 'image'; this request has {len(pictures)}.",
            param="image",
            code="invalid_value" if pictures else "missing_required_parameter",
        )
    if mask is not None and mask.size != pictures[0].size:
        raise ApiError(
            f"The mask is {mask.width}x{mask.height}, the picture {pictures[0].width}x{pictures[0].height}; "
            "they must be equal.",
            param="mask",
            code="invalid_value",
        )
    return fields, pictures[0], mask


def open_picture(content: bytes, *, field: str) -> Image.Image:
    """The unpacked picture, turned as its camera says.

    Raises ApiError for what is none, is damaged or too large.
    """
    expected = "send a PNG, JPEG or WebP file"
    try:
        with Image.open(io.BytesIO(content), formats=INPUT_FORMATS) as picture:
            if picture.width * picture.height > MAX_INPUT_PIXELS:
                raise ApiError(
                    f"{field} is {picture.width}x{picture.height}; at most {MAX_INPUT_PIXELS} pixels do.",
                    param=field,
                    code="picture_too_large",
                )
            return ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError as error:
        raise ApiError(f"{field} is too large: {error}.", param=field, code="picture_too_large") from error
    except UnidentifiedImageError as error:
        raise ApiError(
            f"{field} is not a picture that can be read: {expected}.", param=field, code="invalid_picture"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ApiError(
            f"{field} is damaged ({error}): {expected}.", param=field, code="invalid_picture"
        ) from error


def _read_mask(picture: Image.Image) -> Image.Image:
    """The protocol's mask is transparent where the picture may change."""
    if "A" not in picture.getbands():
        raise ApiError(
            "The mask has no transparency: where the picture may change, the mask must be transparent.",
            param="mask",
            code="invalid_value",
        )
    return ImageOps.invert(picture.getchannel("A"))
