"""What is drawn: requests, what becomes of them, and which of them can share one computation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PIL.Image import Image


class Kind(StrEnum):
    """From what a picture is made."""

    TEXT = "text-to-image"
    IMAGE = "image-to-image"
    INPAINTING = "inpainting"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture that somebody asked for."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    image: Image | None = None
    """RGB, of the size asked for; what to begin with."""
    mask: Image | None = None
    """Grayscale, of the same size: white where the picture may change."""
    strength: float = 1.0
    """How far to go from `image`, above 0; 1 = it is only a hint."""
    previews: int = 0
    """Unfinished pictures to show on the way."""

    @property
    def kind(self) -> Kind:
        if self.image is None:
            return Kind.TEXT
        return Kind.IMAGE if self.mask is None else Kind.INPAINTING

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Drawings with equal keys go through the same steps, and so through them together."""
        return (self.kind, self.width, self.height, self.steps, self.guidance, self.strength)

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Begun:
    """The drawing is being computed."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step is done."""

    step: int
    """From 1 to `steps`."""
    steps: int
    preview: Image | None = None
    """The unfinished picture, where one was asked for at this step."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The picture is ready."""

    image: Image
    flagged: bool
    """Whether the model's safety checker objects to it; the picture is then black."""


News = Begun | Step | Drawn


def preview_steps(*, steps: int, previews: int) -> frozenset[int]:
    """After which steps to show the unfinished picture: evenly spread, never the last."""
    return frozenset(
        step
        for number in range(1, previews + 1)
        if 1 <= (step := round(steps * number / (previews + 1))) < steps
    )
