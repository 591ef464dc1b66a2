"""What is drawn by a model that was trained: the digit asked for, in its style, and edits of it.

Not among the tests of every run, since the training takes minutes: `make test-images`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtimes.images.digits.captions import STYLES, WORDS
from tests.runtimes.images.answers import as_png, decode, generate
from tests.runtimes.images.judge import darkest_corner, read_digit
from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.trains, pytest.mark.timeout(1800)]


def test_a_classifier_recognizes_what_is_drawn(trained_server: RunningServer) -> None:
    wishes = [(digit, style, seed) for digit in range(10) for style in STYLES for seed in range(3)]

    def is_right(wish: tuple[int, str, int]) -> bool:
        digit, style, seed = wish
        prompt = f"a {WORDS[digit]}" if seed % 2 else f"the digit {digit}"
        return read_digit(generate(trained_server, prompt, style=style, seed=seed), style=style) == digit

    with ThreadPoolExecutor(max_workers=8) as pool:
        right = list(pool.map(is_right, wishes))
    assert sum(right) / len(right) >= 0.85


def test_a_style_decides_the_colors(trained_server: RunningServer) -> None:
    chalk, ink = (generate(trained_server, "a three", style=style, seed=1) for style in ("chalk", "ink"))
    assert darkest_corner(chalk) < 60
    assert darkest_corner(ink) > 195


def test_an_edit_keeps_what_it_began_with_when_its_strength_is_low(trained_server: RunningServer) -> None:
    seven = generate(trained_server, "a seven", seed=5)

    def edited(strength: str) -> np.ndarray[Any, Any]:
        with trained_server.openai as client:
            answer = client.images.edit(
                model="draw-demo",
                image=("seven.png", as_png(seven)),
                # Not another style: its colors come with the first step, at any strength.
                prompt="a three",
                extra_body={"strength": strength, "seed": 5},
            )
        assert answer.data is not None
        return np.asarray(decode(answer.data[0].b64_json), dtype=int)

    before = np.asarray(seven, dtype=int)
    assert np.abs(edited("0.2") - before).mean() < np.abs(edited("1.0") - before).mean()


def test_a_mask_protects_what_is_not_transparent(trained_server: RunningServer) -> None:
    four = generate(trained_server, "a four", seed=2)
    mask = Image.new("RGBA", four.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 8, 16, 16))
    with trained_server.openai as client:
        answer = client.images.edit(
            model="draw-demo",
            image=("four.png", as_png(four)),
            mask=("mask.png", as_png(mask)),
            prompt="a four, ink on paper",
            extra_body={"strength": "1", "seed": 2},
        )
    assert answer.data is not None
    changes = np.abs(
        np.asarray(decode(answer.data[0].b64_json), dtype=int) - np.asarray(four, dtype=int)
    ).mean(axis=(1, 2))
    assert changes[:6].mean() < changes[10:].mean() / 2
