"""What happens on the way: token by token, callers that hang up, replicas that fail, gateways that stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import openai
import pytest
from django.db import connection
from openai import OpenAI

from deployments.gateway.models import RequestCount
from deployments.serving.models import Deployment, Replica
from tests.deployments.gateway.conftest import add_replica
from tests.deployments.gateway.servers import WAIT, Runtime, breaking, unused_address
from tests.people import Person
from tests.waiting import eventually

Deploy = Callable[..., Deployment]
Start = Callable[..., tuple[Runtime, str]]

QUESTION: Any = [{"role": "user", "content": "Moien"}]
CHAT = {"model": "chat", "messages": QUESTION}
STREAM = CHAT | {"stream": True}

BEGUN_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b'2b\r\ndata: {"choices":[{"delta":{"content":"Hel\r\n'
)


@pytest.fixture
def runtime(runtimes: Start, deploy: Deploy, alice: Person) -> Runtime:
    """The runtime of alice's deployment `chat`; its tokens wait to be let go."""
    runtime, address = runtimes()
    runtime.free = False
    deploy(alice.organization, "chat", address)
    return runtime


def in_progress(http: httpx.Client) -> str:
    page = http.get("/metrics").text
    return next(line for line in page.splitlines() if line.startswith("gateway_calls_in_progress "))


def test_each_token_arrives_before_the_next_one_is_made(runtime: Runtime, client: OpenAI) -> None:
    """The runtime makes a token only after the caller has read the one before: nothing is gathered."""
    stream = client.chat.completions.create(model="chat", messages=QUESTION, stream=True)
    words = []
    for chunk in stream:
        if chunk.choices:
            words.append(chunk.choices[0].delta.content)
        runtime.let_token_go()
    assert words == ["Hello", " from", " one"]


def test_a_caller_that_hangs_up_ends_the_stream_of_the_runtime(
    runtime: Runtime, client: OpenAI, http: httpx.Client
) -> None:
    stream = client.chat.completions.create(model="chat", messages=QUESTION, stream=True)
    next(iter(stream))
    stream.close()  # the runtime sends nothing more: no write can find out that nobody listens
    assert runtime.gone.wait(WAIT)
    eventually(lambda: in_progress(http) == "gateway_calls_in_progress 0.0")
    assert 'gateway_calls_total{status="499"} 1.0' in http.get("/metrics").text


def test_a_caller_that_hangs_up_before_the_answer_ends_the_call_of_the_runtime(
    runtime: Runtime, gateway: str, secret: str, http: httpx.Client
) -> None:
    address = httpx.URL(gateway)
    with socket.create_connection((address.host, address.port or 0)) as caller:
        body = b'{"model":"chat"}'
        caller.sendall(
            b"POST /v1/silent HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert runtime.arrived.wait(WAIT)
    assert runtime.gone.wait(WAIT)
    eventually(lambda: in_progress(http) == "gateway_calls_in_progress 0.0")


def test_a_replica_that_cannot_be_reached_is_replaced_by_another(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person
) -> None:
    _, address = runtimes()
    deploy(alice.organization, "chat", unused_address(), unused_address(), address)
    answers = [http.post("/v1/chat/completions", json=CHAT).status_code for _ in range(8)]
    assert answers == [200] * 8


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("it closes the connection", b""),
        ("it closes after the headers", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        ("it speaks nonsense", b"hello\r\n\r\n"),
        ("it is draining", b"HTTP/1.1 503 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ("it is another's", b"HTTP/1.1 421 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ("its queue is full", b"HTTP/1.1 429 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    ],
)
def test_a_replica_that_fails_before_its_first_byte_is_replaced_by_another(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person, case: str, answer: bytes
) -> None:
    _, good = runtimes()
    with breaking(answer) as (bad, requests):
        deploy(alice.organization, "chat", bad, good)
        # The bad one is asked sooner or later, and every call is answered all the same.
        while not requests:
            assert http.post("/v1/chat/completions", json=CHAT).status_code == 200, case


def test_a_call_that_ends_two_replicas_is_not_given_a_third(
    http: httpx.Client, deploy: Deploy, alice: Person
) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(breaking()) for _ in range(3)]
        deploy(alice.organization, "chat", *(address for address, _ in replicas))
        answer = http.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
        assert sum(len(requests) for _, requests in replicas) == 2


def test_a_call_whose_time_is_over_is_not_computed_again_elsewhere(
    http: httpx.Client, deploy: Deploy, alice: Person
) -> None:
    over = b'{"error": {"message": "Not complete after 1 s.", "code": "deadline_exceeded"}}'
    head = b"HTTP/1.1 504 no\r\nX-Should-Retry: false\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    with ExitStack() as stack:
        replicas = [stack.enter_context(breaking(head % len(over) + over)) for _ in range(3)]
        deploy(alice.organization, "chat", *(address for address, _ in replicas))
        answer = http.post("/v1/chat/completions", json=CHAT)
        assert sum(len(requests) for _, requests in replicas) == 1
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"


def test_a_call_says_whom_it_is_meant_for_and_another_s_answer_is_not_passed_on(
    http: httpx.Client, deploy: Deploy, alice: Person
) -> None:
    """The address of a replica may be that of another customer's pod by now."""
    refusal = b"HTTP/1.1 421 no\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret"
    with breaking(refusal) as (address, requests):
        deployment = deploy(alice.organization, "chat", address)
        answer = http.post("/v1/chat/completions", json=CHAT, headers={"X-Marketplace-Resource": "dep_other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")
    assert "secret" not in answer.text
    (request,) = requests
    named = [line for line in request.lower().split(b"\r\n") if line.startswith(b"x-marketplace-resource:")]
    assert named == [f"x-marketplace-resource: {deployment.public_id}".encode()]


def test_nobody_there_says_when_to_come_back(http: httpx.Client, deploy: Deploy, alice: Person) -> None:
    deploy(alice.organization, "chat", unused_address())
    answer = http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["message"] == "No replica of the deployment 'chat' could be reached."


def test_a_stream_that_breaks_ends_with_an_error_the_sdk_raises(
    client: OpenAI, deploy: Deploy, alice: Person
) -> None:
    event = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"chat","choices":[]}\n\n'
    begun = f"{len(event):x}\r\n".encode() + event + b"\r\n"
    with breaking(BEGUN_STREAM.split(b"2b\r\n")[0] + begun + b"ff\r\ndata: {half an ev") as (
        address,
        requests,
    ):
        deploy(alice.organization, "chat", address)
        stream = iter(client.chat.completions.create(model="chat", messages=QUESTION, stream=True))
        assert next(stream).id == "1"
        with pytest.raises(openai.APIError, match="The model stopped in the middle of its answer"):
            next(stream)
        assert len(requests) == 1, "what has begun is not sent again"


def test_an_answer_that_breaks_is_not_taken_for_a_whole_one(
    http: httpx.Client, deploy: Deploy, alice: Person
) -> None:
    cut = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"half":'
    with breaking(cut) as (address, _):
        deploy(alice.organization, "chat", address)
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/v1/chat/completions", json=CHAT)


def test_the_least_busy_replica_gets_the_next_call(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person
) -> None:
    """Nine streams over three replicas are three each, however long they last."""
    three = [runtimes(name) for name in ("one", "two", "three")]
    for runtime, _ in three:
        runtime.free = False
    deploy(alice.organization, "chat", *(address for _, address in three))
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(http.stream("POST", "/v1/chat/completions", json=STREAM))
        assert [len(runtime.seen) for runtime, _ in three] == [3, 3, 3]


def test_a_new_replica_gets_calls_within_moments(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person
) -> None:
    (_, first), (second, address) = runtimes("one"), runtimes("two")
    deployment = deploy(alice.organization, "chat", first)
    assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
    add_replica(deployment, address)
    Replica.objects.filter(address=first).update(ready=False)
    eventually(lambda: http.post("/v1/chat/completions", json=CHAT).is_success and second.seen)


def test_many_callers_at_once_are_all_answered_and_counted(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person
) -> None:
    three = [runtimes(name) for name in ("one", "two", "three")]
    deploy(alice.organization, "chat", *(address for _, address in three))
    statuses: Counter[int] = Counter()

    def call() -> None:
        for _ in range(10):
            statuses[http.post("/v1/chat/completions", json=CHAT).status_code] += 1

    callers = [threading.Thread(target=call) for _ in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert statuses == {200: 120}
    assert sum(len(runtime.seen) for runtime, _ in three) == 120

    def counted() -> int:
        return sum(count.count for count in RequestCount.objects.filter(meter="requests"))

    eventually(lambda: counted() == 120)


def test_a_gateway_told_to_stop_finishes_its_streams_and_writes_its_counts(
    transactional_db: None, runtime: Runtime, secret: str
) -> None:
    with gateway_process(secret, stop_delay=0) as (process, http):
        port = http.base_url.port
        assert port is not None
        with http.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["model"] == "chat"
            process.send_signal(signal.SIGTERM)
            eventually(lambda: not accepts(port))
            assert process.poll() is None
            for _ in range(3):
                runtime.let_token_go()
            assert [line for line in lines if line][-1] == "data: [DONE]"
        # uvicorn ends by the signal it was sent, once everything is done.
        assert process.wait(WAIT) == -signal.SIGTERM
    counts = {count.meter: count.count for count in RequestCount.objects.all()}
    assert counts == {"requests": 1, "input_tokens": 5, "output_tokens": 3}


def test_a_gateway_told_to_stop_is_not_ready_at_once_and_answers_until_nobody_comes(
    transactional_db: None, runtime: Runtime, secret: str
) -> None:
    runtime.free = True
    with gateway_process(secret, stop_delay=WAIT) as (process, http):
        process.send_signal(signal.SIGTERM)
        eventually(lambda: http.get("/ready").status_code == 503)
        answers = [http.post("/v1/chat/completions", json=CHAT) for _ in range(5)]
        assert [(it.status_code, it.headers["connection"]) for it in answers] == [(200, "close")] * 5
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)  # whoever says it twice does not want to wait
        assert process.wait(WAIT / 2) == -signal.SIGTERM


@contextmanager
def gateway_process(
    secret: str, *, stop_delay: float
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A gateway as a process of its own, over the test's database, and a client with a key."""
    database = connection.settings_dict
    url = f"postgres://{database['USER']}@{database['HOST'].replace('/', '%2F')}/{database['NAME']}"
    port = int(unused_address().rpartition(":")[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "deployments.gateway.asgi:application"]
        + ["--port", str(port), "--timeout-graceful-shutdown", "20"],
        env=os.environ | {"DATABASE_URL": url, "GATEWAY_STOP_DELAY_SECONDS": str(stop_delay)},
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {secret}"},
            timeout=30,
            trust_env=False,
        ) as http:
            eventually(lambda: accepts(port))
            assert http.get("/ready").status_code == 200
            yield process, http
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
