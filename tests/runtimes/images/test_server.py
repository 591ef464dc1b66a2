"""Pictures over HTTP, drawn by a real model in a real process, as the official SDK asks for them."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError
from PIL import Image

from runtimes.images.digits.captions import STYLES, WORDS
from tests.processes import wait_until
from tests.runtimes.images.judge import darkest_corner, read_digit
from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(600)]


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


def test_a_classifier_recognizes_what_is_drawn(image_server: RunningServer) -> None:
    wishes = [(digit, style, seed) for digit in range(10) for style in STYLES for seed in range(3)]

    def is_right(wish: tuple[int, str, int]) -> bool:
        digit, style, seed = wish
        prompt = f"a {WORDS[digit]}" if seed % 2 else f"the digit {digit}"
        return read_digit(generate(image_server, prompt, style=style, seed=seed), style=style) == digit

    with ThreadPoolExecutor(max_workers=8) as pool:
        right = list(pool.map(is_right, wishes))
    assert sum(right) / len(right) >= 0.85


def test_a_style_decides_the_colors(image_server: RunningServer) -> None:
    chalk, ink = (generate(image_server, "a three", style=style, seed=1) for style in ("chalk", "ink"))
    assert darkest_corner(chalk) < 60
    assert darkest_corner(ink) > 195


def test_the_answer_has_pictures_of_the_size_and_their_usage(image_server: RunningServer) -> None:
    with image_server.openai as client:
        answer = client.images.generate(
            model="draw-demo", prompt="a five", n=2, size="24x16", output_format="webp", output_compression=90
        )
    assert answer.data is not None and answer.usage is not None
    pictures = [decode(item.b64_json) for item in answer.data]
    assert [(picture.format, picture.size) for picture in pictures] == [("WEBP", (24, 16))] * 2
    assert (answer.output_format, answer.size, answer.background) == ("webp", "24x16", "opaque")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_seed_gives_the_same_picture_alone_and_among_others(image_server: RunningServer) -> None:
    alone = np.asarray(generate(image_server, "a two", seed=7), dtype=int)
    with ThreadPoolExecutor(max_workers=8) as pool:
        among = list(
            pool.map(lambda seed: generate(image_server, "a two", seed=seed), (7, 1, 2, 7, 3, 7, 4, 7))
        )
    # Sums of floating point numbers in another order: a shade of 256 at most.
    assert [np.abs(np.asarray(among[place], dtype=int) - alone).max() <= 1 for place in (0, 3, 5, 7)] == [
        True
    ] * 4
    assert np.abs(np.asarray(among[1], dtype=int) - alone).max() > 1


def test_a_stream_shows_unfinished_pictures_and_each_step(image_server: RunningServer) -> None:
    with image_server.openai as client:
        events = list(
            client.images.generate(
                model="draw-demo",
                prompt="a nine",
                stream=True,
                partial_images=2,
                extra_body={"seed": 3, "steps": 6, "progress": True},
            )
        )
    steps = [event.step for event in events if event.type == "image_generation.progress"]  # type: ignore[comparison-overlap]
    assert steps == [1, 2, 3, 4, 5, 6]
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert [decode(event.b64_json).size for event in partial] == [(16, 16)] * 2
    last = events[-1]
    assert last.type == "image_generation.completed"
    finished = np.asarray(decode(last.b64_json))
    alone = np.asarray(generate(image_server, "a nine", seed=3, steps=6))
    assert np.abs(finished.astype(int) - alone.astype(int)).max() <= 1


def test_an_edit_keeps_what_it_began_with_when_its_strength_is_low(image_server: RunningServer) -> None:
    seven = generate(image_server, "a seven", seed=5)

    def edited(strength: str) -> np.ndarray[Any, Any]:
        with image_server.openai as client:
            answer = client.images.edit(
                model="draw-demo",
                image=("seven.png", as_png(seven)),
                prompt="a seven, blueprint",
                extra_body={"strength": strength, "seed": 5},
            )
        assert answer.data is not None
        return np.asarray(decode(answer.data[0].b64_json), dtype=int)

    before = np.asarray(seven, dtype=int)
    assert np.abs(edited("0.2") - before).mean() < np.abs(edited("1.0") - before).mean()


def test_a_mask_protects_what_is_not_transparent(image_server: RunningServer) -> None:
    four = generate(image_server, "a four", seed=2)
    mask = Image.new("RGBA", four.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 8, 16, 16))
    with image_server.openai as client:
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


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": "seven " * 40}, "prompt", "context_length_exceeded"),
        ({"n": 10_000}, "n", "invalid_value"),
        ({"size": "17x16"}, "size", "invalid_value"),
        ({"size": "huge"}, "size", "invalid_value"),
        ({"size": "1024x1024"}, "size", "invalid_value"),
        ({"response_format": "url"}, "response_format", "invalid_value"),
        ({"output_compression": 50}, None, "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"partial_images": 2}, None, "invalid_value"),
        ({"background": "transparent"}, "background", "unsupported_parameter"),
        ({"moderation": "low"}, "moderation", "unsupported_parameter"),
        ({"style": "vivid"}, "style", "invalid_value"),
        ({"steps": 0}, "steps", "invalid_value"),
        ({"guidance": -1.0}, "guidance", "invalid_value"),
        ({"model": "another"}, "model", "model_not_found"),
        ({"frame_count": 3}, "frame_count", "unsupported_parameter"),
    ],
)
def test_it_refuses_what_it_cannot_honor_and_names_the_field(
    image_server: RunningServer, changes: dict[str, Any], param: str | None, code: str
) -> None:
    body = {"model": "draw-demo", "prompt": "a one"} | changes
    with image_server.http as http:
        response = http.post("/v1/images/generations", json=body)
    error = response.json()["error"]
    assert response.status_code in (400, 404)
    assert (error["param"], error["code"]) == (param, code)


def test_the_refusal_of_a_style_lists_those_there_are(image_server: RunningServer) -> None:
    with image_server.openai as client, pytest.raises(BadRequestError, match="chalk, ink, blueprint"):
        client.images.generate(model="draw-demo", prompt="a one", extra_body={"style": "vivid"})


NOISE = as_png(Image.effect_noise((64, 64), 50))
BOMB = as_png(Image.new("1", (20_000, 20_000)))


@pytest.mark.parametrize(
    ("files", "fields", "param", "code"),
    [
        ([("image", b"not a picture")], {}, "image", "invalid_picture"),
        ([("image", NOISE[: len(NOISE) // 2])], {}, "image", "invalid_picture"),
        ([("image", BOMB)], {}, "image", "picture_too_large"),
        ([("mask", as_png(Image.new("RGBA", (16, 16))))], {}, "image", "missing_required_parameter"),
        ([("image", as_png(Image.new("RGB", (16, 16))))] * 2, {}, "image", "invalid_value"),
        (
            [("image", as_png(Image.new("RGB", (16, 16)))), ("mask", as_png(Image.new("RGBA", (8, 8))))],
            {},
            "mask",
            "invalid_value",
        ),
        (
            [("image", as_png(Image.new("RGB", (16, 16)))), ("mask", as_png(Image.new("RGB", (16, 16))))],
            {},
            "mask",
            "invalid_value",
        ),
        ([("image", as_png(Image.new("RGB", (16, 16))))], {"strength": "2"}, "strength", "invalid_value"),
        (
            [("image", as_png(Image.new("RGB", (16, 16))))],
            {"strength": "0.001"},
            "strength",
            "invalid_value",
        ),
        ([("image", as_png(Image.new("RGB", (16, 16))))], {"shape": "x"}, "shape", "unsupported_parameter"),
    ],
)
def test_it_refuses_pictures_that_it_cannot_change(
    image_server: RunningServer, files: list[tuple[str, bytes]], fields: dict[str, str], param: str, code: str
) -> None:
    with image_server.http as http:
        response = http.post(
            "/v1/images/edits",
            data={"model": "draw-demo", "prompt": "a one"} | fields,
            files=[(name, ("file", content)) for name, content in files],
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)


def test_an_edit_without_a_form_is_refused(image_server: RunningServer) -> None:
    with image_server.http as http:
        response = http.post("/v1/images/edits", json={"model": "draw-demo", "prompt": "a one"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_content_type")


def test_a_client_that_hangs_up_frees_its_places(image_server: RunningServer) -> None:
    body = {"model": "draw-demo", "prompt": "a one", "n": 4, "steps": 150, "stream": True, "progress": True}
    with (
        image_server.http as http,
        http.stream("POST", "/v1/images/generations", json=body, timeout=60) as response,
    ):
        first = next(line for line in response.iter_lines() if line.startswith("data: "))
        assert json.loads(first.removeprefix("data: "))["steps"] == 150
    wait_until(lambda: image_server.meter("runtime_running") == 0, seconds=60, what="the places to be free")
    assert image_server.meter("runtime_hang_ups_total") >= 1


def test_a_queue_that_is_full_asks_to_come_back_later(image_server: RunningServer) -> None:
    body = {"model": "draw-demo", "prompt": "a one", "n": 10, "steps": 150, "stream": True, "progress": True}
    with (
        image_server.http as http,
        http.stream("POST", "/v1/images/generations", json=body, timeout=60) as response,
    ):
        # Kept, since the stream is closed with its iterator.
        lines = response.iter_lines()
        next(lines)
        with image_server.http as second:
            refused = second.post("/v1/images/generations", json=body)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    wait_until(lambda: image_server.meter("runtime_running") == 0, seconds=60, what="the places to be free")
