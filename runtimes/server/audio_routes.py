"""Routes of a speech model: /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from runtimes.contract import OPENAI_PATH
from runtimes.errors import EngineFailure
from runtimes.server.answers import EventStream, HeldResponse
from runtimes.server.errors import ApiError, model_not_found
from runtimes.server.lifecycle import Serving
from runtimes.server.schemas import TranscriptionBody, TranslationBody
from runtimes.server.uploads import Form, read_form

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.speech.model import SpeechModel
    from runtimes.speech.transcription import Told, Wish

MAX_PROMPT_TOKENS = 223
"""Whisper reads the last ones of a longer prompt: half of its context, less the token that begins it."""


def speech_recognition_routes(serving: Serving) -> list[BaseRoute]:
    """The routes, bound to one server."""

    async def transcribe(request: Request) -> Response:
        return await _accept(request, TranscriptionBody, serving=serving, task="transcribe")

    async def translate(request: Request) -> Response:
        return await _accept(request, TranslationBody, serving=serving, task="translate")

    return [
        Route(f"{OPENAI_PATH}/audio/transcriptions", transcribe, methods=["POST"]),
        Route(f"{OPENAI_PATH}/audio/translations", translate, methods=["POST"]),
    ]


async def _accept(request: Request, kind: type[TranslationBody], *, serving: Serving, task: str) -> Response:
    """Reads and checks the form. Its file is kept until the answer has been sent, and removed then."""
    model: Any = serving.require_model()
    async with AsyncExitStack() as files:
        form = await files.enter_async_context(read_form(request, kind))
        body = form.body
        if body.model != serving.environment.model_name:
            raise model_not_found(body.model, served=serving.environment.model_name)
        wish = _read_wish(body, model=model, task=task)
        answer = _Transcription(form, wish=wish, model=model, serving=serving)
        kept = files.pop_all()
    if isinstance(body, TranscriptionBody) and body.stream:
        return _Stream(serving=serving, sequences=1, events=answer.events, files=kept)
    return _Whole(serving=serving, sequences=1, transcription=answer, files=kept)


def _read_wish(body: TranslationBody, *, model: SpeechModel, task: str) -> Wish:
    from runtimes.speech.transcription import Wish

    vocabulary = model.vocabulary
    language = None
    if task == "translate" and not vocabulary.languages:
        raise ApiError(
            "This model knows English only, so it cannot translate.", status=404, code="unsupported_model"
        )
    if isinstance(body, TranscriptionBody) and body.language is not None:
        language = vocabulary.language(body.language)
        if language is None:
            known = ", ".join(sorted(vocabulary.languages)) or "en, which may be left out"
            raise ApiError(
                f"This model does not know the language {body.language!r}. It knows {known}.",
                param="language",
                code="invalid_value",
            )
    prompt = vocabulary.encode(f" {body.prompt.strip()}") if body.prompt.strip() else []
    return Wish(
        language=language,
        task=task,
        prompt=tuple(prompt[-MAX_PROMPT_TOKENS:]),
        temperature=body.temperature,
        timestamps=body.response_format in ("srt", "vtt", "verbose_json"),
        words="word" in _granularities(body),
    )


class _Transcription:
    """The work for one request, and how it is told."""

    def __init__(
        self, form: Form[TranslationBody], *, wish: Wish, model: SpeechModel, serving: Serving
    ) -> None:
        self._form = form
        self._wish = wish
        self._model = model
        self._serving = serving

    async def answer(self) -> Response:
        """The whole transcription, in the format asked for."""
        from runtimes.speech import formats

        told = [it async for it in self._told()]
        segments = [segment for it in told for segment in it.segments]
        seconds = told[-1].end
        body = self._form.body
        match body.response_format:
            case "text":
                return PlainTextResponse(formats.to_text(segments) + "\n")
            case "srt":
                return PlainTextResponse(formats.to_srt(segments), media_type="application/x-subrip")
            case "vtt":
                return PlainTextResponse(formats.to_vtt(segments), media_type="text/vtt")
            case "verbose_json":
                heard = next((it.heard for it in told if it.heard is not None), None)
                language = heard.language if heard is not None else self._wish.language
                return JSONResponse(
                    formats.to_verbose(
                        segments,
                        task=self._wish.task,
                        language=self._model.vocabulary.language_name(language or "unknown"),
                        seconds=seconds,
                        granularities=_granularities(body) or ["segment"],
                    )
                )
        return JSONResponse({"text": formats.to_text(segments), "usage": formats.usage(seconds)})

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """A delta for each window as soon as it and those before it are heard, then the whole text."""
        text = ""
        seconds = 0.0
        async for it in self._told():
            seconds = it.end
            delta = "".join(segment.text for segment in it.segments)
            delta = delta if text else delta.lstrip()
            if delta:
                text += delta
                yield {"type": "transcript.text.delta", "delta": delta}
        yield {
            "type": "transcript.text.done",
            "text": text,
            "usage": {"type": "duration", "seconds": round(seconds, 3)},
        }

    async def _told(self) -> AsyncIterator[Told]:
        from runtimes.speech.reading import NotAudio

        try:
            async with (
                self._serving.admission.place(),
                self._model.transcriber.open(self._form.file) as windows,
            ):
                async for told in self._model.transcriber.transcribe(windows, self._wish):
                    self._serving.metrics.audio_seconds.inc(told.end - told.start)
                    self._serving.metrics.completion_tokens.inc(
                        sum(len(segment.tokens) for segment in told.segments)
                    )
                    yield told
        except NotAudio as error:
            raise ApiError(
                f"The file is no audio that can be transcribed: {error}. WAV, FLAC, MP3, Ogg, WebM, M4A and "
                "MP4 can be read.",
                param="file",
                code="invalid_value",
            ) from error
        except EngineFailure as error:
            raise ApiError(
                "The model failed while it answered.", status=500, type="server_error", code="engine_failure"
            ) from error


class _Whole(HeldResponse):
    """Sends the transcription when it is complete."""

    def __init__(self, *, transcription: _Transcription, files: AsyncExitStack, **held: Any) -> None:
        super().__init__(**held)
        self._transcription = transcription
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._files:
            await super().__call__(scope, receive, send)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._transcription.answer()
        await response(scope, receive, send)


class _Stream(EventStream):
    """Sends the transcription as it comes."""

    def __init__(self, *, files: AsyncExitStack, **held: Any) -> None:
        super().__init__(**held)
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._files:
            await super().__call__(scope, receive, send)


def _granularities(body: TranslationBody) -> list[str]:
    return [*body.timestamp_granularities] if isinstance(body, TranscriptionBody) else []
