"""Styles and settings: the customer's word first, then the style's, the model's, the pipeline's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtimes.errors import SetupError
from runtimes.images.drawing import preview_steps
from runtimes.images.memory import DrawingShape
from runtimes.images.presets import PRESETS_FILE, Presets, Settings, Style, Wish, read_presets, settle


@pytest.mark.parametrize(
    ("wish", "style", "defaults", "expected"),
    [
        (Wish(steps=5, guidance=1.0), Style(steps=9, guidance=2.0), Settings(steps=8), (5, 1.0)),
        (Wish(), Style(steps=9, guidance=2.0), Settings(steps=8, guidance=3.0), (9, 2.0)),
        (Wish(), Style(), Settings(steps=8, guidance=3.0), (8, 3.0)),
        (Wish(), None, Settings(), (28, 7.5)),
        (Wish(effort=0.5), None, Settings(), (14, 7.5)),
        (Wish(steps=5, effort=0.5), None, Settings(), (5, 7.5)),
        (Wish(guidance=0.0), None, Settings(), (28, 0.0)),
    ],
)
def test_the_nearest_word_on_a_setting_holds(
    wish: Wish, style: Style | None, defaults: Settings, expected: tuple[int, float]
) -> None:
    pipeline = {"num_inference_steps": 28, "guidance_scale": 7.5}
    assert settle(wish, style=style, presets=Presets(defaults=defaults), pipeline=pipeline) == expected


def test_a_model_without_presets_has_our_styles(tmp_path: Path) -> None:
    styles = read_presets(tmp_path).styles
    assert styles["watercolor"].apply("a fox").startswith("a fox, watercolor")
    assert styles["midjourney"].apply("a fox").startswith("mdjrny-v4 style a fox")


def test_a_model_brings_its_own(tmp_path: Path) -> None:
    (tmp_path / PRESETS_FILE).write_text(json.dumps({"styles": {"corporate": {"suffix": ", in our blue"}}}))
    assert read_presets(tmp_path) == Presets(styles={"corporate": Style(suffix=", in our blue")})


@pytest.mark.parametrize("content", ["{", '{"styles": {"x": {"sufix": "y"}}}', '{"defaults": {"steps": 0}}'])
def test_presets_that_are_wrong_are_refused_by_file(tmp_path: Path, content: str) -> None:
    (tmp_path / PRESETS_FILE).write_text(content)
    with pytest.raises(SetupError, match=r"presets\.json cannot be used"):
        read_presets(tmp_path)


def test_previews_are_spread_and_never_the_last_step() -> None:
    assert preview_steps(steps=12, previews=2) == {4, 8}
    assert preview_steps(steps=1, previews=3) == frozenset()
    assert preview_steps(steps=12, previews=0) == frozenset()


def test_memory_is_that_of_one_decoded_picture_or_of_a_step_of_the_batch() -> None:
    """Stable Diffusion 1.5: 512 pixels, a decoder 256 channels wide there, a denoiser of 320."""
    shape = DrawingShape.from_configs(
        vae={"block_out_channels": [128, 256, 512, 512]}, denoiser={"block_out_channels": [320, 640, 1280]}
    )
    assert shape == DrawingShape(decoder_channels=256, denoiser_width=320, scale=8)
    picture = 512 * 512
    one = shape.activation_bytes(picture_pixels=picture, batch_pixels=picture, bytes_per_value=2)
    many = shape.activation_bytes(picture_pixels=picture, batch_pixels=64 * picture, bytes_per_value=2)
    assert (one, many) == (picture * 256 * 6 * 2, 2 * 64 * 64 * 64 * 320 * 24 * 2)
