"""Routes of an image model: /v1/images/generations and /v1/images/edits."""

from __future__ import annotations

import asyncio
import base64
import io
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtimes.contract import OPENAI_PATH
from runtimes.errors import EngineFailure
from runtimes.images.drawing import Begun, Drawing, Drawn, News, Step
from runtimes.images.presets import Style, Wish, settle
from runtimes.server.answers import Answer, EventStream
from runtimes.server.bodies import read_body
from runtimes.server.errors import ApiError, invalid_body, model_not_found
from runtimes.server.image_bodies import EFFORT, EditBody, ImageBody, read_edit, read_form
from runtimes.server.lifecycle import Serving

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.images.model import ImageModel


def image_routes(serving: Serving) -> list[BaseRoute]:
    """The routes, bound to one server."""

    async def generate(request: Request) -> Response:
        model: Any = serving.require_model()
        body = await read_body(request, ImageBody)
        drawing = _plan(body, size=_size(body, model=model), model=model, serving=serving)
        return _respond(body, drawing=drawing, event="image_generation", serving=serving, request=request)

    async def edit(request: Request) -> Response:
        model: Any = serving.require_model()
        async with read_form(request) as form:
            fields, picture, mask = await read_edit(form)
        try:
            # A form has nothing but text, so here "3" is a number.
            body = EditBody.model_validate(fields, strict=False)
        except ValidationError as error:
            raise invalid_body(error) from error
        size = _size(body, model=model, picture=picture)
        drawing = replace(
            _plan(body, size=size, model=model, serving=serving),
            image=picture.resize(size, Image.Resampling.LANCZOS),
            mask=mask and mask.resize(size),
            strength=body.strength,
        )
        if drawing.kind not in model.pipelines.kinds:
            raise ApiError(f"This model does no {drawing.kind.value}.", param="mask" if mask else "image")
        if drawing.steps * drawing.strength < 1:
            raise ApiError(
                f"strength {body.strength:g} of {drawing.steps} steps leaves none to compute; raise either.",
                param="strength",
                code="invalid_value",
            )
        return _respond(body, drawing=drawing, event="image_edit", serving=serving, request=request)

    return [
        Route(f"{OPENAI_PATH}/images/generations", generate, methods=["POST"]),
        Route(f"{OPENAI_PATH}/images/edits", edit, methods=["POST"]),
    ]


def _plan(body: ImageBody, *, size: tuple[int, int], model: ImageModel, serving: Serving) -> Drawing:
    """The first picture of the request. Raises ApiError for what this model cannot do."""
    if body.model != serving.environment.model_name:
        raise model_not_found(body.model, served=serving.environment.model_name)
    style = Style()
    if body.style is not None:
        known = model.presets.styles
        if body.style not in known:
            raise ApiError(
                f"The style {body.style!r} is unknown; this model has: {', '.join(known) or 'none'}.",
                param="style",
                code="invalid_value",
            )
        style = known[body.style]
    if body.negative_prompt and not model.pipelines.takes_negative_prompts:
        raise ApiError(
            "This model takes no negative prompt.", param="negative_prompt", code="unsupported_parameter"
        )
    negative = ", ".join(filter(None, (body.negative_prompt, style.negative_prompt)))
    prompt = style.apply(body.prompt)
    for field, text in (("prompt", prompt), ("negative_prompt", negative)):
        tokens = model.pipelines.count_tokens(text)
        if tokens > model.pipelines.prompt_tokens:
            raise ApiError(
                f"The {field} has {tokens} tokens, with its style and two marks; this model reads "
                f"{model.pipelines.prompt_tokens}. Shorten it.",
                param=field,
                code="context_length_exceeded",
            )
    wish = Wish(steps=body.steps, guidance=body.guidance, effort=EFFORT[body.quality])
    steps, guidance = settle(wish, style=style, presets=model.presets, pipeline=model.pipelines.defaults)
    return Drawing(
        prompt=prompt,
        negative_prompt=negative,
        width=size[0],
        height=size[1],
        steps=steps,
        guidance=guidance,
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        previews=body.partial_images,
    )


def _size(body: ImageBody, *, model: ImageModel, picture: Image.Image | None = None) -> tuple[int, int]:
    """Width and height to draw: as asked, else as near to the picture's as the model can, else its own."""
    multiple, (width, height) = model.pipelines.multiple, model.pipelines.native_size
    if body.dimensions is None:
        if picture is None:
            return width, height
        share = (width * height / (picture.width * picture.height)) ** 0.5
        sides = [max(1, int(side * share / multiple)) * multiple for side in picture.size]
        if sides[0] * sides[1] > model.largest_pixels:
            raise ApiError(
                f"A picture of {picture.width}x{picture.height} is too narrow for its own shape; say "
                f"a size, such as {width}x{height}.",
                param="image",
                code="invalid_value",
            )
        return sides[0], sides[1]
    wanted_width, wanted_height = body.dimensions
    if wanted_width % multiple or wanted_height % multiple:
        raise ApiError(
            f"size {body.size} cannot be drawn: width and height must be multiples of {multiple}.",
            param="size",
            code="invalid_value",
        )
    if wanted_width * wanted_height > model.largest_pixels:
        raise ApiError(
            f"size {body.size} has {wanted_width * wanted_height} pixels; this server draws at most "
            f"{model.largest_pixels}, such as {width}x{height}.",
            param="size",
            code="invalid_value",
        )
    return wanted_width, wanted_height


@dataclass(frozen=True, kw_only=True)
class _Job:
    body: ImageBody
    drawings: Sequence[Drawing]
    event: str
    model: ImageModel
    serving: Serving

    def usage(self, *, pictures: int) -> dict[str, Any]:
        """Prompt tokens in; out, the positions of the latent pictures, of which one is some 64 pixels."""
        first = self.drawings[0]
        read = self.model.pipelines.count_tokens(first.prompt)
        drawn = pictures * first.pixels // self.model.pipelines.multiple**2
        return {
            "input_tokens": read,
            "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
            "output_tokens": drawn,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
            "total_tokens": read + drawn,
        }

    def about(self) -> dict[str, Any]:
        """What is said of every picture."""
        first = self.drawings[0]
        quality = {"standard": "medium", "hd": "high", "auto": "medium"}
        return {
            "background": "opaque",
            "output_format": self.body.output_format,
            "quality": quality.get(self.body.quality, self.body.quality),
            "size": f"{first.width}x{first.height}",
        }


def _respond(
    body: ImageBody, *, drawing: Drawing, event: str, serving: Serving, request: Request
) -> Response:
    if body.n > serving.admission.largest:
        raise ApiError(
            f"This request has {body.n} pictures; at most {serving.admission.largest} fit the queue.",
            param="n",
        )
    request.state.user = body.user or body.safety_identifier
    job = _Job(
        body=body,
        # The first picture of a seed is the same whatever n is.
        drawings=[replace(drawing, seed=(drawing.seed + number) % 2**63) for number in range(body.n)],
        event=event,
        model=serving.require_model(),  # type: ignore[arg-type]
        serving=serving,
    )
    held: dict[str, Any] = {"serving": serving, "sequences": body.n}
    if body.stream:
        return EventStream(events=lambda: _events(job), **held)
    return Answer(compute=lambda: _collect(job), **held)


async def _collect(job: _Job) -> dict[str, Any]:
    pictures: dict[int, str] = {}
    async with aclosing(_run(job)) as news:
        async for index, item in news:
            if isinstance(item, Drawn):
                pictures[index] = await _encode(item.image, body=job.body)
    return {
        "created": int(time.time()),
        "data": [{"b64_json": pictures[index]} for index in sorted(pictures)],
        **job.about(),
        "usage": job.usage(pictures=len(pictures)),
    }


async def _events(job: _Job) -> AsyncGenerator[dict[str, Any], None]:
    shown = [0] * len(job.drawings)
    async with aclosing(_run(job)) as news:
        async for index, item in news:
            head = {"created_at": int(time.time()), **job.about()}
            if isinstance(item, Step):
                if job.body.progress:
                    yield {
                        "type": f"{job.event}.progress",
                        "index": index,
                        "step": item.step,
                        "steps": item.steps,
                    }
                if item.preview is not None:
                    picture = await _encode(item.preview, body=job.body)
                    yield {
                        "type": f"{job.event}.partial_image",
                        "b64_json": picture,
                        "partial_image_index": shown[index],
                        **head,
                    }
                    shown[index] += 1
            elif isinstance(item, Drawn):
                picture = await _encode(item.image, body=job.body)
                yield {
                    "type": f"{job.event}.completed",
                    "b64_json": picture,
                    **head,
                    "usage": job.usage(pictures=1),
                }


async def _run(job: _Job) -> AsyncGenerator[tuple[int, News], None]:
    """(index of the picture, news of it) until all are drawn; closing it stops all computation."""
    queue: asyncio.Queue[tuple[int, News | ApiError]] = asyncio.Queue()
    job.serving.metrics.prompt_tokens.inc(job.usage(pictures=0)["input_tokens"])
    tasks = [
        asyncio.create_task(_run_one(index, drawing, job=job, queue=queue))
        for index, drawing in enumerate(job.drawings)
    ]
    try:
        unfinished = len(tasks)
        while unfinished:
            index, item = await queue.get()
            if isinstance(item, ApiError):
                raise item
            unfinished -= isinstance(item, Drawn)
            yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run_one(
    index: int, drawing: Drawing, *, job: _Job, queue: asyncio.Queue[tuple[int, News | ApiError]]
) -> None:
    try:
        async with aclosing(job.model.engine.draw(drawing)) as news:
            # The engine chooses what is drawn together, so a drawing has its place once it is begun.
            async for item in news:
                if isinstance(item, Begun):
                    break
            async with job.serving.admission.place():
                async for item in news:
                    if isinstance(item, Drawn) and item.flagged:
                        raise ApiError(
                            "The model's safety checker objects to what was drawn; change prompt or seed.",
                            param="prompt",
                            code="content_policy_violation",
                        )
                    queue.put_nowait((index, item))
    except ApiError as error:
        queue.put_nowait((index, error))
    except EngineFailure as error:
        failed = ApiError(
            "The model failed while it drew.", status=500, type="server_error", code="engine_failure"
        )
        failed.__cause__ = error
        queue.put_nowait((index, failed))


async def _encode(image: Image.Image, *, body: ImageBody) -> str:
    """The file in base64, written beside the event loop."""

    def encode() -> str:
        file = io.BytesIO()
        options: dict[str, Any] = {}
        if body.output_format != "png":
            compression = 100 if body.output_compression is None else body.output_compression
            options["quality"] = compression
        image.save(file, format=body.output_format, **options)
        return base64.b64encode(file.getvalue()).decode()

    return await asyncio.to_thread(encode)
