"""Watches: the history from a revision on and then everything new, as events of JSON, a line each."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.api import refusals
from tests.kubernetes.api.faults import (
    Close,
    Drop,
    Duplicate,
    Expire,
    Fault,
    Reorder,
    Silence,
)
from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.rendering import one
from tests.kubernetes.api.store import Change, Store, Stored

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a watch wants to see."""

    kind: Kind
    matches: Callable[[Stored], bool]
    form: str
    revision: str
    bookmarks: bool
    initial_events: bool
    """Begin with everything there is, and a bookmark that says so."""
    seconds: float
    """How long the stream goes on."""
    bookmark_seconds: float


async def events(store: Store, question: Question, faults: Iterable[Fault] = ()) -> AsyncIterator[bytes]:
    """The stream, in pieces of whole lines. Ends after `seconds`, or when the watch is told 410 Gone."""
    spoiler = Spoiler(tuple(faults))
    pending: deque[Change] = deque()
    awake = asyncio.Event()

    def note(change: Change) -> None:
        if change.kind is question.kind:
            pending.append(change)
            awake.set()

    from_start = question.initial_events or question.revision in ("", "0")
    if not from_start and int(question.revision) < store.oldest:
        yield _too_old(question, store)
        return
    first: list[bytes] = []
    if from_start:
        first = [
            _event("ADDED", item, question) for item in store.all(question.kind) if question.matches(item)
        ]
        if question.initial_events and question.bookmarks:
            first.append(_bookmark(question, store.revision, initial_end=True))
    else:
        pending.extend(
            change for change in store.changes_after(int(question.revision)) if change.kind is question.kind
        )
    store.listeners.append(note)
    try:
        for piece in first:  # before any fault: lists have faults of their own
            yield piece
        loop = asyncio.get_running_loop()
        deadline = loop.time() + question.seconds
        bookmark_at = loop.time() + question.bookmark_seconds
        while (left := deadline - loop.time()) > 0:
            awake.clear()
            lines = []
            while pending:
                change = pending.popleft()
                if line := _told(change, question):
                    lines.append(line)
            for piece in spoiler.spoil(lines):
                yield piece
            if spoiler.expired:
                yield _too_old(question, store)
            if spoiler.over:
                return
            if question.bookmarks and loop.time() >= bookmark_at:
                bookmark_at = loop.time() + question.bookmark_seconds
                if not spoiler.silent:
                    yield _bookmark(question, store.revision)
            wait = min(left, bookmark_at - loop.time()) if question.bookmarks else left
            try:
                async with asyncio.timeout(max(wait, 0.001)):
                    await awake.wait()
            except TimeoutError:
                continue
    finally:
        store.listeners.remove(note)


def _told(change: Change, question: Question) -> bytes | None:
    """The event of a change for this watch; None when it does not concern it."""
    was = change.before is not None and question.matches(change.before)
    if change.after is None:
        return _event("DELETED", change.before, question) if was and change.before else None
    if question.matches(change.after):
        return _event("MODIFIED" if was else "ADDED", change.after, question)
    if was:  # it no longer matches: for this watch it is gone
        return _event("DELETED", change.after, question)
    return None


def _event(kind: str, stored: Stored, question: Question) -> bytes:
    return b"".join((b'{"type":"', kind.encode(), b'","object":', one(stored, question.form), b"}\n"))


def _bookmark(question: Question, revision: int, *, initial_end: bool = False) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    body = {"kind": question.kind.kind, "apiVersion": question.kind.api_version, "metadata": metadata}
    return json.dumps({"type": "BOOKMARK", "object": body}).encode() + b"\n"


def _too_old(question: Question, store: Store) -> bytes:
    refused = refusals.expired(f"too old resource version: {question.revision} ({store.oldest})")
    return json.dumps({"type": "ERROR", "object": refused.status}).encode() + b"\n"


class Spoiler:
    """Does to a stream what its faults say."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._left = min(
            (fault.after for fault in faults if isinstance(fault, Silence | Close | Expire)), default=None
        )
        self._end = next((fault for fault in faults if isinstance(fault, Silence | Close | Expire)), None)
        self._twice = any(isinstance(fault, Duplicate) for fault in faults)
        self._reorder = next((fault for fault in faults if isinstance(fault, Reorder)), None)
        self._drop = next((fault for fault in faults if isinstance(fault, Drop)), None)
        self._shuffling = random.Random(self._reorder.seed if self._reorder else 0)
        self._dropping = random.Random(self._drop.seed if self._drop else 0)
        self.silent = False
        self.over = False
        self.expired = False

    def spoil(self, lines: list[bytes]) -> list[bytes]:
        """What of the lines, in which order and how often, is sent now."""
        if self.silent:
            return []
        if self._drop:
            rate = self._drop.rate
            lines = [line for line in lines if self._dropping.random() >= rate]
        if self._twice:
            lines = [line for line in lines for _ in range(2)]
        if self._reorder:
            size = self._reorder.within
            groups = [lines[start : start + size] for start in range(0, len(lines), size)]
            for group in groups:
                self._shuffling.shuffle(group)
            lines = [line for group in groups for line in group]
        if self._left is not None:
            lines, cut = lines[: self._left], len(lines) >= self._left
            self._left -= len(lines)
            if cut:
                self.silent = isinstance(self._end, Silence)
                self.over = not self.silent
                self.expired = isinstance(self._end, Expire)
        return lines
