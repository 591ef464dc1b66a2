"""How much time a request has: who ends it, when, and what the caller is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import pytest
from starlette.types import Message, Scope

from runtimes.contract import ServingEnvironment, Task
from runtimes.server.answers import EventStream
from runtimes.server.deadlines import time_limit
from runtimes.server.errors import ApiError
from runtimes.server.lifecycle import Serving
from tests.processes import wait_until
from tests.runtimes.serving import ENDLESS, RunningServer, is_idle, open_request

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [([], 60.0), ([(b"x-request-timeout", b"2.5")], 2.5), ([(b"x-request-timeout", b"3600")], 60.0)],
    ids=["none", "the caller's", "the server's"],
)
def test_the_shorter_limit_counts(headers: list[tuple[bytes, bytes]], seconds: float) -> None:
    assert time_limit(headers, longest=60.0) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "", "\xff"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="X-Request-Timeout must be a number of seconds above zero") as refusal:
        time_limit([(b"x-request-timeout", text.encode("latin-1"))], longest=60.0)

    assert (refusal.value.status, refusal.value.param) == (400, "X-Request-Timeout")


@pytest.mark.weights
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole answer"])
def test_what_waited_too_long_is_refused_before_it_is_computed(
    text_server: RunningServer, stream: bool
) -> None:
    with ExitStack() as stack, text_server.http as client:
        for _ in range(2):
            stack.enter_context(open_request(text_server, ENDLESS))
        wait_until(lambda: text_server.meter("runtime_running") == 2, what="both places to be taken")
        refused = client.post(
            "/v1/chat/completions", json=ENDLESS | {"stream": stream}, headers={"X-Request-Timeout": "0.3"}
        )
        begun = text_server.meter("runtime_time_to_first_token_seconds_count")
        waiting = text_server.meter("runtime_queue_length")
    wait_until(lambda: is_idle(text_server), seconds=10, what="an idle server")

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_timeout")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert waiting == 0
    assert begun <= text_server.meter("runtime_time_to_first_token_seconds_count") <= begun + 2


@pytest.mark.weights
def test_an_answer_that_takes_too_long_is_ended(text_server: RunningServer) -> None:
    with text_server.http as client:
        ended = client.post("/v1/chat/completions", json=ENDLESS, headers={"X-Request-Timeout": "1"})
    wait_until(lambda: is_idle(text_server), seconds=10, what="an idle server")

    assert (ended.status_code, ended.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert ended.headers["x-should-retry"] == "false"


@pytest.mark.weights
def test_a_stream_that_takes_too_long_ends_with_the_reason(text_server: RunningServer) -> None:
    with text_server.http as client:
        ended = client.post(
            "/v1/chat/completions", json=ENDLESS | {"stream": True}, headers={"X-Request-Timeout": "2"}
        )
    wait_until(lambda: is_idle(text_server), seconds=10, what="an idle server")

    events = [line.removeprefix("data: ") for line in ended.text.splitlines() if line]
    assert ended.status_code == 200
    assert json.loads(events[-1])["error"]["code"] == "deadline_exceeded"
    assert all("error" not in json.loads(event) for event in events[:-1])


@pytest.mark.weights
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole answer"])
def test_a_client_that_hangs_up_while_it_waits_leaves_the_queue(
    text_server: RunningServer, stream: bool
) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(open_request(text_server, ENDLESS))
        wait_until(lambda: text_server.meter("runtime_running") == 2, what="both places to be taken")
        with open_request(text_server, ENDLESS | {"stream": stream}):
            wait_until(lambda: text_server.meter("runtime_queue_length") == 1, what="a third request")

        wait_until(lambda: text_server.meter("runtime_queue_length") == 0, what="an empty queue")
        assert text_server.meter("runtime_running") == 2
    wait_until(lambda: is_idle(text_server), seconds=10, what="an idle server")


async def test_a_client_that_never_reads_gives_its_place_back_in_time() -> None:
    serving = Serving(
        ServingEnvironment(
            task=Task.TEXT_GENERATION, model_dir="unused", model_name="demo", request_seconds=0.1
        )
    )
    full = asyncio.Event()

    async def endless() -> AsyncGenerator[dict[str, Any], None]:
        async with serving.admission.place():
            while True:
                yield {}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await full.wait()

    async def receive() -> Message:
        await full.wait()
        raise AssertionError("the client says nothing")

    scope: Scope = {"type": "http", "headers": [], "state": {"arrived": perf_counter(), "request_id": "r"}}
    await EventStream(serving=serving, sequences=1, events=endless)(scope, receive, send)

    assert (serving.admission.running, serving.admission.waiting) == (0, 0)
