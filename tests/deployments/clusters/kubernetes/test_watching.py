"""Watches behind something that does not speak as an API server does."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from deployments.clusters.kubernetes import watching
from deployments.clusters.kubernetes.kinds import POD
from tests.processes import wait_until

EVENT = b'{"type": "ADDED", "object": {"metadata": {"labels": {"marketplace/resource": "dep_1"}}}}\n'


class Proxy:
    """Answers each watch with the same few bytes, and ends it."""

    def __init__(self, *answer: bytes) -> None:
        self.answer = answer
        self.asked_at: list[float] = []

    def get(self, path, **asked):
        return {"metadata": {"resourceVersion": "7"}}

    def stream(self, path, **asked):
        self.asked_at.append(time.monotonic())
        return Answer(self.answer)


class Answer:
    def __init__(self, chunks) -> None:
        self.chunks = chunks

    def stream(self, amount):
        yield from self.chunks

    def close(self) -> None: ...


def watch(proxy: Proxy, *, rounds: int) -> list[str]:
    """What is told until the watch was opened so often."""
    stop, seen = threading.Event(), []
    follow = watching.Watching(proxy, [POD], selector="", stop=stop)
    thread = threading.Thread(target=lambda: seen.extend(follow))
    thread.start()
    try:
        wait_until(lambda: len(proxy.asked_at) >= rounds, what=f"round {rounds}")
    finally:
        stop.set()
        thread.join()
    return seen


def test_a_watch_that_always_ends_at_once_is_not_opened_without_a_pause(monkeypatch):
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0.2)
    proxy = Proxy()
    watch(proxy, rounds=3)
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(proxy.asked_at))


@pytest.mark.parametrize("nonsense", [b"<html>\n", b"[]\n", b'{"type": "ADDED"}\n', b"null\n"])
def test_a_watch_outlives_what_is_no_event(nonsense, monkeypatch):
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0.5)
    assert set(watch(Proxy(EVENT, nonsense), rounds=3)) == {"dep_1"}
