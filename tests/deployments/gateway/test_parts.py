"""The parts of the gateway that need no socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection
from hypothesis import given
from hypothesis import strategies as st

from deployments.gateway.balancing import Balancer, Upstream
from deployments.gateway.counts import Bucket, add_counts
from deployments.gateway.models import RequestCount
from deployments.gateway.relay import BodyRelay, EventRelay, Tokens, headers_for_caller
from deployments.gateway.remembering import Remembered
from marketplace.accounts.models import Organization

A, B = Upstream("a", "127.0.0.1:1"), Upstream("b", "127.0.0.1:2")
MINUTE = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_least_busy_is_chosen_and_suspects_come_last() -> None:
    clock = Clock()
    balancer = Balancer(suspicion=3, clock=clock, tie=lambda: 0)
    assert balancer.choose([A, B]) == A
    with balancer.busy(A):
        assert (balancer.choose([A, B]), balancer.choose([A, B], besides={"b"})) == (B, A)
        balancer.suspect(B)
        assert (balancer.choose([A, B]), balancer.choose([B])) == (A, B)
        clock.now = 3.1
        assert balancer.choose([A, B]) == B
    assert (balancer.choose([]), balancer.outstanding) == (None, 0)


@given(st.lists(st.integers(1, 40), max_size=20))
def test_events_pass_whole_wherever_the_bytes_were_cut(sizes: Sequence[int]) -> None:
    usage = b'data: {"usage":{"prompt_tokens":5,"completion_tokens":3}}'
    stream = b'data: {"a":1}\n\n' + usage + b"\r\n\r\ndata: [DONE]\n\nrest"
    relay, passed, rest = EventRelay(), b"", stream
    for size in [*sizes, len(stream)]:
        part = relay.feed(rest[:size])
        assert part == b"" or part.endswith((b"\n\n", b"\r\n\r\n"))
        passed, rest = passed + part, rest[size:]
    assert passed + relay.finish() == stream
    assert relay.tokens == Tokens(5, 3)


def test_a_body_tells_its_usage_in_either_spelling_and_nothing_else_does() -> None:
    def tokens(body: bytes, content_type: str = "application/json") -> Tokens:
        relay = BodyRelay(content_type=content_type)
        assert relay.feed(body) == body
        return relay.tokens

    assert tokens(b'{"usage":{"input_tokens":2,"output_tokens":1}}') == Tokens(2, 1)
    assert tokens(b'{"usage":{"prompt_tokens":2,"completion_tokens":"x"}}') == Tokens(2, 0)
    for silent in (b'{"usage":null}', b"[]", b"{", b"", b'{"usage":3}'):
        assert tokens(silent) == Tokens()
    assert tokens(b'{"usage":{"input_tokens":2}}', "text/plain") == Tokens()


def test_headers_about_the_connection_stay_on_it() -> None:
    given = [
        (b"Content-Type", b"text/plain"),
        (b"Connection", b"keep-alive, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Set-Cookie", b"a=b"),
        (b"Server", b"uvicorn"),
        (b"Retry-After", b"3"),
    ]
    assert headers_for_caller(given) == [(b"content-type", b"text/plain"), (b"retry-after", b"3")]


async def test_what_is_remembered_outlives_a_database_that_is_away_for_a_while() -> None:
    clock, away, asked = Clock(), False, 0

    async def load(key: str) -> int:
        nonlocal asked
        if away:
            raise OperationalError("no connection")
        asked += 1
        return asked

    remembered = Remembered(load, age=1, stale=60, size=2, clock=clock)
    assert [await remembered.get("a"), await remembered.get("a")] == [1, 1]
    remembered.forget("a")
    assert await remembered.get("a") == 2
    clock.now, away = 30, True
    assert await remembered.get("a") == 2
    with pytest.raises(OperationalError):
        await remembered.get("b")
    clock.now = 61
    with pytest.raises(OperationalError):
        await remembered.get("a")
    away = False
    assert await remembered.get("a") == 3


async def test_many_who_ask_at_once_ask_the_database_once() -> None:
    asked = 0
    answer = asyncio.Event()

    async def load(key: str) -> int:
        nonlocal asked
        asked += 1
        await answer.wait()
        return asked

    remembered = Remembered(load, age=1, stale=60)
    askers = [asyncio.create_task(remembered.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    askers[0].cancel()  # one who hangs up does not spoil it for the others
    answer.set()
    assert await asyncio.gather(*askers[1:]) == [1, 1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_gateways_that_count_at_once_lose_nothing(acme: Organization) -> None:
    buckets = [Bucket(f"dep_{n}", "key_1", MINUTE, "requests", acme.pk) for n in range(20)]
    errors: list[Exception] = []

    def gateway(order: Sequence[Bucket]) -> None:
        try:
            for _ in range(10):
                add_counts(dict.fromkeys(order, 3))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    gateways = [threading.Thread(target=gateway, args=(buckets[:: 1 if n % 2 else -1],)) for n in range(4)]
    for each in gateways:
        each.start()
    for each in gateways:
        each.join()
    assert errors == []
    assert sorted(RequestCount.objects.values_list("count", flat=True)) == [120] * 20


def test_counts_of_an_organization_that_is_gone_are_dropped(acme: Organization) -> None:
    gone = Bucket("dep_1", "key_1", MINUTE, "requests", acme.pk + 1)
    kept = Bucket("dep_2", "key_1", MINUTE, "requests", acme.pk)
    add_counts({gone: 1, kept: 2})
    assert list(RequestCount.objects.values_list("resource", "count")) == [("dep_2", 2)]
