"""The bytes on the wire: what clients, proxies and networks do to a request and to an answer."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from runtimes.contract import Task
from tests.conformance.groups.chat import ASK, ask
from tests.conformance.target import Target, equal, read_answer

TASK = Task.TEXT_GENERATION
PATH = "/v1/chat/completions"


def body_of(target: Target, **fields: Any) -> bytes:
    given = {"model": target.model, "messages": ASK, "max_tokens": 2, "temperature": 0}
    return json.dumps(given | fields).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def check_a_chunked_body_is_read(target: Target) -> None:
    body = body_of(target)
    with target.socket() as connection:
        connection.sendall(target.head(PATH, length=None) + chunk(body[:20]) + chunk(body[20:]) + chunk(b""))
        equal(read_answer(connection)[0], 200)


def check_a_body_byte_by_byte_is_read(target: Target) -> None:
    body = body_of(target)
    with target.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in target.head(PATH, length=len(body)) + body:
            connection.sendall(bytes([byte]))
        equal(read_answer(connection)[0], 200)


def check_a_connection_is_used_again(target: Target) -> None:
    body = body_of(target)
    with target.socket() as connection:
        for _ in range(2):
            connection.sendall(target.head(PATH, length=len(body)) + body)
            equal(read_answer(connection)[0], 200)


def check_a_connection_is_used_again_after_a_refusal(target: Target) -> None:
    with target.socket() as connection:
        for body, status in ((body_of(target, n=0), 400), (body_of(target), 200)):
            connection.sendall(target.head(PATH, length=len(body)) + body)
            equal(read_answer(connection)[0], status)


def check_a_connection_is_used_again_after_a_stream(target: Target) -> None:
    with target.socket() as connection:
        for body in (body_of(target, stream=True), body_of(target)):
            connection.sendall(target.head(PATH, length=len(body)) + body)
            equal(read_answer(connection)[0], 200)


def check_pipelined_requests_are_answered_in_order(target: Target) -> None:
    one, two = body_of(target, max_tokens=3), body_of(target, max_tokens=1)
    with target.socket() as connection:
        connection.sendall(
            target.head(PATH, length=len(one)) + one + target.head(PATH, length=len(two)) + two
        )
        first = connection.makefile("rb")
        with first:
            lengths = [_read_from(first) for _ in range(2)]
    equal([json.loads(body)["usage"]["completion_tokens"] for body in lengths], [3, 1])


def check_a_connection_is_closed_when_asked(target: Target) -> None:
    body = body_of(target)
    with target.socket() as connection:
        connection.sendall(target.head(PATH, length=len(body), extra=["Connection: close"]) + body)
        read_answer(connection)
        equal(connection.recv(1), b"")


def check_a_client_that_expects_to_be_asked_is_asked(target: Target) -> None:
    body = body_of(target)
    with target.socket() as connection:
        connection.sendall(target.head(PATH, length=len(body), extra=["Expect: 100-continue"]))
        assert connection.recv(64).startswith(b"HTTP/1.1 100"), "no 100 Continue"
        connection.sendall(body)
        equal(read_answer(connection)[0], 200)


def check_a_huge_body_is_refused(target: Target) -> None:
    with target.socket() as connection:
        connection.sendall(target.head(PATH, length=2**33))
        status, _, body = read_answer(connection)
    equal((status, "error" in json.loads(body)), (413, True))


def check_no_http_is_refused(target: Target) -> None:
    with target.socket() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 400"), "no 400"


def check_another_content_type_is_refused(target: Target) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = target.http.post(PATH, content=b"model=x&n=1", headers=headers)
    assert response.status_code in (400, 415), response.status_code
    assert "error" in response.json()


def check_events_come_as_they_are_made(target: Target) -> None:
    body = body_of(target, stream=True, max_tokens=24, stop=["\u2603"])
    arrivals = []
    with target.socket() as connection:
        connection.sendall(target.head(PATH, length=len(body)) + body)
        data = b""
        while b"[DONE]" not in data:
            part = connection.recv(65536)
            assert part, "the connection was closed before [DONE]"
            data += part
            arrivals.append(time.monotonic())
    assert len(arrivals) > 2, "all events came at once"


def check_a_slow_reader_gets_everything(target: Target) -> None:
    body = body_of(target, stream=True, max_tokens=12)
    with target.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(target.head(PATH, length=len(body)) + body)
        data = b""
        while b"[DONE]" not in data:
            part = connection.recv(16)
            assert part, "the connection was closed before [DONE]"
            data += part


def check_clients_that_hang_up_leave_room(target: Target) -> None:
    for _ in range(6):
        body = body_of(target, stream=True, max_tokens=400)
        with target.socket() as connection:
            connection.sendall(target.head(PATH, length=len(body)) + body)
            assert connection.recv(16)
    deadline = time.monotonic() + 60
    while target.http.post(PATH, content=body_of(target)).status_code == 429:
        assert time.monotonic() < deadline, "the places are still taken"
    assert ask(target, max_tokens=1).choices


def _read_from(stream: Any) -> bytes:
    """The body of an answer with a length."""
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    content: bytes = stream.read(length)
    return content
