"""Pictures over HTTP, from a real pipeline in a real process, as the official SDK asks for them.

Its weights are random, since nothing here depends on what a picture shows: see test_drawing.py.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError
from PIL import Image

from tests.processes import wait_until
from tests.runtimes.images.answers import as_png, decode, generate
from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(600)]


def test_the_answer_has_pictures_of_the_size_and_their_usage(untrained_server: RunningServer) -> None:
    with untrained_server.openai as client:
        answer = client.images.generate(
            model="draw-demo", prompt="a five", n=2, size="24x16", output_format="webp", output_compression=90
        )
    assert answer.data is not None and answer.usage is not None
    pictures = [decode(item.b64_json) for item in answer.data]
    assert [(picture.format, picture.size) for picture in pictures] == [("WEBP", (24, 16))] * 2
    assert (answer.output_format, answer.size, answer.background) == ("webp", "24x16", "opaque")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_seed_gives_the_same_picture_alone_and_among_others(untrained_server: RunningServer) -> None:
    alone = np.asarray(generate(untrained_server, "a two", seed=7), dtype=int)
    with ThreadPoolExecutor(max_workers=8) as pool:
        among = list(
            pool.map(lambda seed: generate(untrained_server, "a two", seed=seed), (7, 1, 2, 7, 3, 7, 4, 7))
        )
    # Sums of floating point numbers in another order: a shade of 256 at most.
    assert [np.abs(np.asarray(among[place], dtype=int) - alone).max() <= 1 for place in (0, 3, 5, 7)] == [
        True
    ] * 4
    assert np.abs(np.asarray(among[1], dtype=int) - alone).max() > 1


def test_a_stream_shows_unfinished_pictures_and_each_step(untrained_server: RunningServer) -> None:
    with untrained_server.openai as client:
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
    alone = np.asarray(generate(untrained_server, "a nine", seed=3, steps=6))
    assert np.abs(finished.astype(int) - alone.astype(int)).max() <= 1


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
    untrained_server: RunningServer, changes: dict[str, Any], param: str | None, code: str
) -> None:
    body = {"model": "draw-demo", "prompt": "a one"} | changes
    with untrained_server.http as http:
        response = http.post("/v1/images/generations", json=body)
    error = response.json()["error"]
    assert response.status_code in (400, 404)
    assert (error["param"], error["code"]) == (param, code)


def test_the_refusal_of_a_style_lists_those_there_are(untrained_server: RunningServer) -> None:
    with untrained_server.openai as client, pytest.raises(BadRequestError, match="chalk, ink, blueprint"):
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
        ([("image", as_png(Image.new("L", (100_000, 1))))], {}, "image", "invalid_value"),
        ([("image", as_png(Image.new("RGB", (16, 16))))], {"shape": "x"}, "shape", "unsupported_parameter"),
    ],
)
def test_it_refuses_pictures_that_it_cannot_change(
    untrained_server: RunningServer,
    files: list[tuple[str, bytes]],
    fields: dict[str, str],
    param: str,
    code: str,
) -> None:
    with untrained_server.http as http:
        response = http.post(
            "/v1/images/edits",
            data={"model": "draw-demo", "prompt": "a one"} | fields,
            files=[(name, ("file", content)) for name, content in files],
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)


def test_an_edit_without_a_form_is_refused(untrained_server: RunningServer) -> None:
    with untrained_server.http as http:
        response = http.post("/v1/images/edits", json={"model": "draw-demo", "prompt": "a one"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_content_type")


def test_a_client_that_hangs_up_frees_its_places(untrained_server: RunningServer) -> None:
    body = {"model": "draw-demo", "prompt": "a one", "n": 4, "steps": 150, "stream": True, "progress": True}
    with (
        untrained_server.http as http,
        http.stream("POST", "/v1/images/generations", json=body, timeout=60) as response,
    ):
        first = next(line for line in response.iter_lines() if line.startswith("data: "))
        assert json.loads(first.removeprefix("data: "))["steps"] == 150
    wait_until(
        lambda: untrained_server.meter("runtime_running") == 0, seconds=60, what="the places to be free"
    )
    assert untrained_server.meter("runtime_hang_ups_total") >= 1


def test_a_queue_that_is_full_asks_to_come_back_later(untrained_server: RunningServer) -> None:
    body = {"model": "draw-demo", "prompt": "a one", "n": 10, "steps": 150, "stream": True, "progress": True}
    with (
        untrained_server.http as http,
        http.stream("POST", "/v1/images/generations", json=body, timeout=60) as response,
    ):
        # Kept, since the stream is closed with its iterator.
        lines = response.iter_lines()
        next(lines)
        with untrained_server.http as second:
            refused = second.post("/v1/images/generations", json=body)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    wait_until(
        lambda: untrained_server.meter("runtime_running") == 0, seconds=60, what="the places to be free"
    )
