"""Styles and usual settings of a model: data that comes with it, or ours where it brings none.

A style is a name for words around the prompt and settings that go with them, so that a customer can say
"watercolor" and need not know which words make this model paint one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtimes.errors import SetupError

PRESETS_FILE = "presets.json"
"""In the model's folder: {"defaults": {...}, "styles": {name: {...}}}."""
OUR_STYLES = Path(__file__).with_name("data") / "styles.toml"

Steps = Annotated[int, Field(ge=1, le=150)]
Guidance = Annotated[float, Field(ge=0, le=30)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(_Data):
    """What a drawing takes beside its prompt; None leaves it to what is more general."""

    steps: Steps | None = None
    guidance: Guidance | None = None


class Style(Settings):
    """Words and settings that go with a name."""

    prefix: str = ""
    suffix: str = ""
    negative_prompt: str = ""

    def apply(self, prompt: str) -> str:
        """The prompt as the model gets it."""
        return f"{self.prefix}{prompt}{self.suffix}"


class Presets(_Data):
    """All of a model's."""

    defaults: Settings = Settings()
    styles: Mapping[str, Style] = {}


def read_presets(folder: Path) -> Presets:
    """The model's own presets, or our styles where it has none. Raises SetupError for a wrong file."""
    path = folder / PRESETS_FILE
    try:
        if path.exists():
            return Presets.model_validate_json(path.read_bytes())
        return Presets.model_validate(tomllib.loads(OUR_STYLES.read_text()))
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise SetupError(f"{path} cannot be used: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the customer said about how to draw; None = not said."""

    steps: int | None = None
    guidance: float | None = None
    effort: float = 1.0
    """Share of the usual number of steps, for a customer who said how good rather than how long."""


def settle(
    wish: Wish, *, style: Style | None, presets: Presets, pipeline: Mapping[str, Any]
) -> tuple[int, float]:
    """Steps and guidance: as wished, else the style's, else the model's, else its pipeline's own default."""

    def first(*values: Any) -> Any:
        return next((value for value in values if value is not None), None)

    usual = first(style and style.steps, presets.defaults.steps, pipeline.get("num_inference_steps"), 50)
    guidance = first(
        wish.guidance, style and style.guidance, presets.defaults.guidance, pipeline.get("guidance_scale"), 1
    )
    steps = wish.steps if wish.steps is not None else max(1, round(usual * wish.effort))
    return steps, float(guidance)
