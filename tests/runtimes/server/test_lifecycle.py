"""What happens around the answers: queue, hang-up, drain, and servers that cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtimes.contract import ExitCode, ServingEnvironment, Task
from tests.processes import wait_until
from tests.runtimes.serving import ENDLESS, RunningServer, is_idle, open_request, start_server

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole answer"])
def test_a_client_that_hangs_up_frees_its_place(text_server: RunningServer, stream: bool) -> None:
    hang_ups = text_server.meter("runtime_hang_ups_total")
    with open_request(text_server, ENDLESS | {"stream": stream}) as connection:
        if stream:
            assert connection.getresponse().read(64).startswith(b"data: ")
        wait_until(lambda: text_server.meter("runtime_running") == 1, what="the start")
    closed = time.monotonic()

    wait_until(lambda: is_idle(text_server), seconds=10, what="freeing the place")

    # Computing the whole answer would take far longer.
    assert time.monotonic() - closed < 5
    assert text_server.meter("runtime_hang_ups_total") == hang_ups + 1
    tokens = text_server.meter("runtime_completion_tokens_total")
    assert text_server.status_of("/ready") == 200
    assert text_server.meter("runtime_completion_tokens_total") == tokens


def test_a_full_queue_says_when_to_come_back(text_server: RunningServer) -> None:
    with ExitStack() as stack:
        for _ in range(4):  # two places and two that wait
            stack.enter_context(open_request(text_server, ENDLESS))
        wait_until(lambda: text_server.meter("runtime_queue_length") == 2, what="a full queue")
        assert text_server.meter("runtime_running") == 2
        with text_server.http as client:
            refused = client.post("/v1/chat/completions", json=ENDLESS)
        assert text_server.status_of("/ready") == text_server.status_of("/live") == 200
    wait_until(lambda: is_idle(text_server), seconds=10, what="an empty queue")

    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "queue_full"


def test_those_who_waited_are_answered(text_server: RunningServer) -> None:
    body = ENDLESS | {"max_tokens": 3}

    def ask(_: int) -> int:
        with text_server.http as client:
            return client.post("/v1/chat/completions", json=body).status_code

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(ask, range(4))) == [200] * 4


def test_a_body_that_never_comes_holds_no_place(text_server: RunningServer) -> None:
    with socket.create_connection((text_server.environment.host, text_server.environment.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert is_idle(text_server)

    assert text_server.status_of("/ready") == 200


def test_it_drains_before_it_stops(text_environment: ServingEnvironment) -> None:
    with start_server(text_environment) as server:
        assert server.status_of("/ready") in (0, 503)
        wait_until(lambda: server.status_of("/live") == 200, what="listening")
        assert server.status_of("/ready") == 503, "ready before the model can have answered"
        with server.http as client:
            early = client.post("/v1/chat/completions", json=ENDLESS)
        server.wait_ready()
        with open_request(server, ENDLESS | {"stream": True, "max_tokens": 30}) as connection:
            response = connection.getresponse()
            begin = response.read(16)

            os.kill(server.process.pid, signal.SIGTERM)
            wait_until(lambda: server.status_of("/ready") == 503, what="not being ready")
            with server.http as client:
                late = client.post("/v1/chat/completions", json=ENDLESS)
            rest = begin + response.read()
        code = server.exit_code()

    assert (early.status_code, late.status_code) == (503, 503)
    assert early.json()["error"]["message"] == "The model is still loading."
    assert late.json()["error"]["message"] == "This server is stopping and takes no new requests."
    assert rest.endswith(b"data: [DONE]\n\n")
    assert rest.count(b'"finish_reason":"length"') == 1
    assert code == ExitCode.DONE


def test_what_takes_longer_than_the_drain_is_cut_off_with_a_reason(
    text_environment: ServingEnvironment,
) -> None:
    with start_server(replace(text_environment, drain_seconds=0.5, max_concurrency=1)) as server:
        server.wait_ready()
        with (
            open_request(server, ENDLESS | {"stream": True}) as streamed,
            open_request(server, ENDLESS) as waiting,
        ):
            stream = streamed.getresponse()
            begin = stream.read(16)
            wait_until(lambda: server.meter("runtime_queue_length") == 1, what="a second request")
            os.kill(server.process.pid, signal.SIGTERM)
            rest = begin + stream.read()
            answer = waiting.getresponse()
            refused = json.loads(answer.read())
        code = server.exit_code()
        log = server.log

    reason = "This server had to stop before the answer was complete."
    last = json.loads(rest.split(b"data: ")[-1])
    assert last["error"]["message"] == refused["error"]["message"] == reason
    assert b"[DONE]" not in rest
    assert (answer.status, code, "Traceback" in log) == (503, ExitCode.DONE, False), log


def test_it_stops_at_once_while_it_loads(text_environment: ServingEnvironment) -> None:
    with start_server(text_environment) as server:
        wait_until(lambda: server.status_of("/live") == 200, what="listening")
        os.kill(server.process.pid, signal.SIGTERM)

        assert server.exit_code(seconds=10) == ExitCode.DONE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_dir": "/nowhere/at/all"}, "there is no model folder /nowhere/at/all"),
        ({"task": Task.TEXT_TO_VIDEO}, "RUNTIME_TASK=text-to-video is not served by this image"),
        ({"max_concurrency": 0}, "RUNTIME_MAX_CONCURRENCY must be at least 1"),
    ],
    ids=["no folder", "no such task", "no places"],
)
def test_a_wrong_configuration_ends_it_with_a_reason(
    minilm_folder: Path, changes: dict[str, Any], message: str
) -> None:
    right = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION, model_dir=str(minilm_folder), model_name="demo", device="cpu"
    )
    with start_server(replace(right, **changes)) as server:
        code = server.exit_code()

        assert (code, message in server.log) == (ExitCode.BAD_CONFIGURATION, True), server.log


def test_a_changed_file_is_named_before_anything_is_loaded(minilm_folder: Path) -> None:
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION,
        model_dir=str(minilm_folder),
        model_name="demo",
        digests={"model.safetensors": "0" * 64},
    )
    with start_server(environment) as server:
        assert server.exit_code() == ExitCode.BAD_CONFIGURATION
        assert f"{minilm_folder / 'model.safetensors'} is not the file that was approved" in server.log
        assert "Traceback" not in server.log
