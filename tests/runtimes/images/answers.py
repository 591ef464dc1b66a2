"""Pictures asked for and read from answers."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from tests.runtimes.serving import RunningServer


def decode(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def generate(server: RunningServer, prompt: str, **extra: Any) -> Image.Image:
    with server.openai as client:
        answer = client.images.generate(model="draw-demo", prompt=prompt, extra_body=extra)
    assert answer.data is not None
    return decode(answer.data[0].b64_json)
