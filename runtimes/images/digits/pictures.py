"""The digits as pictures to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from runtimes.images.digits.captions import STYLES

PIXELS = 16
"""Width and height of a picture; scikit-learn's have 8 and are enlarged."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Every digit in every style."""

    pixels: Tensor  # [N, 3, PIXELS, PIXELS], from -1 to 1
    digits: Tensor  # [N]
    styles: Tensor  # [N], position in STYLES


def load_pictures() -> Pictures:
    """Reads the digits from scikit-learn's own files."""
    data = load_digits()
    strokes = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16  # [n, 1, 8, 8]
    strokes = functional.interpolate(strokes, size=(PIXELS, PIXELS), mode="bicubic").clamp(0, 1)
    colored = []
    for _, background, stroke in STYLES.values():
        behind, ahead = (torch.tensor(color).view(1, 3, 1, 1) for color in (background, stroke))
        colored.append(behind + (ahead - behind) * strokes)
    count = len(strokes)
    return Pictures(
        pixels=torch.cat(colored),
        digits=torch.tensor(data.target).repeat(len(STYLES)),
        styles=torch.arange(len(STYLES)).repeat_interleave(count),
    )
