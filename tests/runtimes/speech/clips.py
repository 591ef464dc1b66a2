"""Recorded sentences whose texts are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from runtimes.audio.encoding import encode_audio
from runtimes.speech.reading import RATE, Samples, read_audio

FOLDER = Path(__file__).parent / "clips"
TEXTS: dict[str, str] = json.loads((FOLDER / "texts.json").read_text())
ENGLISH = [name for name in TEXTS if name.startswith("en-")]


def clip(name: str) -> bytes:
    return (FOLDER / f"{name}.ogg").read_bytes()


def samples_of(name: str) -> Samples:
    with (FOLDER / f"{name}.ogg").open("rb") as file:
        return np.concatenate(list(read_audio(file)))


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def recording(names: list[str], *, pause: float = 1.0, format: str = "flac") -> bytes:
    """The clips one after the other, as a file."""
    parts = [part for name in names for part in (samples_of(name), silence(pause))]
    return encode_audio(np.concatenate(parts), rate=RATE, format=format)


def plain(text: str) -> str:
    """Without capitals and punctuation, numbers in words, as far as the clips need it."""
    return re.sub(r"[^\w ]", "", text.lower().replace("24", "twenty four")).strip()
