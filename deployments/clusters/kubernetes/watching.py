"""Follows what changes on a cluster, as ids of resources. One connection per kind, one thread each.

A watch is not trusted: one that says nothing for too long is closed and opened again, one whose place is
forgotten (410 Gone) goes on from now, and what is missed meanwhile is found by the sweep. None is opened
again at once: whatever ends every watch as soon as it begins must not be asked without a pause.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import urllib3

from deployments.clusters.errors import ClusterError, ClusterUnreachable
from deployments.clusters.kubernetes.connection import Connection, Gone, NotFound, translated
from deployments.clusters.kubernetes.kinds import ObjectKind
from deployments.clusters.port import RESOURCE_LABEL

log = logging.getLogger(__name__)

SILENCE_SECONDS = 90
"""The API server sends a bookmark about once a minute: longer silence is a dead connection."""
ROUND_SECONDS = 300
"""How long the API server keeps one watch open."""
LOOK_SECONDS = 0.25
"""How often the end is looked for."""
AGAIN_SECONDS = 1.0
END_SECONDS = 1.0
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Watching:
    """Follows the kinds until `stop` is set. Iterate it once."""

    def __init__(
        self,
        connection: Connection,
        kinds: Sequence[ObjectKind],
        *,
        selector: str,
        stop: threading.Event,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._connection = connection
        self._kinds = kinds
        self._selector = selector
        self._stop = stop
        self._silence_seconds = silence_seconds
        self._ended = threading.Event()
        self._news: queue.SimpleQueue[str | ClusterError] = queue.SimpleQueue()
        self._open: dict[str, urllib3.BaseHTTPResponse] = {}

    def __iter__(self) -> Iterator[str]:
        """Ids of resources, of several changes at once each once. Raises what ends one of the watches."""
        threads = [
            threading.Thread(target=self._follow, args=(kind,), name=f"watch {kind.plural}", daemon=True)
            for kind in self._kinds
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set():
                yield from self._waiting_news()
        finally:
            self._ended.set()
            for response in list(self._open.values()):
                # Wakes the thread that reads it.
                with suppress(ValueError, RuntimeError, OSError):
                    response.shutdown()
            # One that waits for the beginning of an answer is not waited for: it ends when that comes.
            deadline = time.monotonic() + END_SECONDS
            for thread in threads:
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _waiting_news(self) -> Iterator[str]:
        found: dict[str, None] = {}
        with suppress(queue.Empty):
            item = self._news.get(timeout=LOOK_SECONDS)
            while True:
                if isinstance(item, ClusterError):
                    raise item
                found[item] = None
                item = self._news.get_nowait()
        yield from found

    def _follow(self, kind: ObjectKind) -> None:
        """One kind, in rounds. What cannot be told apart from a cluster that is gone ends the whole watch."""
        version = ""
        while not self._ended.is_set():
            try:
                version = version or self._now(kind)
                version = self._round(kind, version)
            except (Gone, NotFound):
                version = ""
            except ClusterError as error:
                if not self._ended.is_set():
                    self._news.put(error)
                return
            # Nothing is missed meanwhile: the next round goes on from the version of this one.
            self._ended.wait(AGAIN_SECONDS)

    def _now(self, kind: ObjectKind) -> str:
        """The cluster's resource version now, from the smallest list."""
        found = self._connection.get(
            kind.path(),
            query=(("limit", 1), ("labelSelector", self._selector)),
            accept=METADATA_LIST,
            action=f"watch {kind.plural}",
        )
        return str(found["metadata"]["resourceVersion"])

    def _round(self, kind: ObjectKind, version: str) -> str:
        """Follows until the API server ends the round or falls silent. Returns the version to go on from.

        Raises Gone when that is forgotten.
        """
        query = (
            ("watch", "true"),
            ("labelSelector", self._selector),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", ROUND_SECONDS),
        )
        action = f"watch {kind.plural}"
        response = self._connection.stream(
            kind.path(), query=query, accept=METADATA, silence_seconds=self._silence_seconds, action=action
        )
        self._open[kind.plural] = response
        try:
            with translated(action):
                for line in () if self._ended.is_set() else _lines(response):
                    version = self._take(line) or version
        except ClusterError as error:
            # It was there a moment ago. Whether it still is, the next round finds out.
            if not self._ended.is_set():
                log.info("%s again: %s", action, error)
        finally:
            del self._open[kind.plural]
            response.close()
        return version

    def _take(self, line: bytes) -> str:
        """One event. Its resource version; raises Gone when the place is forgotten."""
        try:
            event: dict[str, Any] = json.loads(line)
            record = event["object"]
            if event["type"] == "ERROR":
                raise Gone(record.get("message", ""))
            metadata = record["metadata"]
            resource = (metadata.get("labels") or {}).get(RESOURCE_LABEL)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # A proxy's word. The thread must not die of it: nobody would notice.
            raise ClusterUnreachable(f"a watch tells {line[:100]!r}, which is no event") from error
        if event["type"] != "BOOKMARK" and resource:
            self._news.put(resource)
        return str(metadata.get("resourceVersion", ""))


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(None):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)
