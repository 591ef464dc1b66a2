"""Requests that fail while revisions change: `make bench-rollout`. There should be none.

The whole product runs with the real runtime on the local cluster. Callers that never pause ask for embeddings
through the gateway while the deployment is updated, scaled, rolled back, given a canary, and updated to
something that cannot start. Every answer that is not 200 is counted and printed; any makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench.report import print_machine
from tests.chaos.product import Product

MODEL = "sentence-transformers/all-minilm-l6-v2"
NAME = "embed"
CPU = "8"
"""Four replicas of two CPUs: two may be replaced while they serve, three may not."""
LONGEST_CHANGE_SECONDS = 240.0
LOOK_EVERY_SECONDS = 0.2

Document = dict[str, Any]


@dataclass
class Callers:
    """Threads that call the deployment one request after the other, as long as the run lasts."""

    url: str
    key: str
    count: int
    stop: threading.Event = field(default_factory=threading.Event)
    revisions: Counter[str] = field(default_factory=Counter)
    """Calls answered, by the revision that answered."""
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [threading.Thread(target=self._call_on) for _ in range(self.count)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _call_on(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as http:
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    answer = http.post("/v1/embeddings", json={"model": NAME, "input": "How are you?"})
                    problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:300]}"
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                self.slowest = max(self.slowest, time.monotonic() - began)
                if problem:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {problem}")
                else:
                    self.revisions[answer.headers["x-deployment-revision"]] += 1


class Run:
    """One deployment under load, and what is done to it."""

    def __init__(self, product: Product, callers: Callers, path: str) -> None:
        self._product = product
        self._callers = callers
        self._path = path

    def change(
        self,
        title: str,
        method: str,
        path: str = "",
        body: Document | None = None,
        *,
        until: Callable[[Document], bool],
    ) -> None:
        """Asks for a change, waits until it has come about, and prints what it cost the callers."""
        before, failed = sum(self._callers.revisions.values()), len(self._callers.failures)
        began = time.monotonic()
        self._product.request(method, f"{self._path}{path}", body)
        self.wait(title, until)
        seconds = time.monotonic() - began
        calls = sum(self._callers.revisions.values()) - before
        print(
            f"{title}: {seconds:.1f} s, {calls} calls, {len(self._callers.failures) - failed} failed",
            flush=True,
        )

    def wait(self, title: str, until: Callable[[Document], bool]) -> Document:
        deadline = time.monotonic() + LONGEST_CHANGE_SECONDS
        while True:
            document: Document = self._product.request("GET", self._path)
            if document["observed_generation"] == document["generation"] and until(document):
                return document
            if time.monotonic() > deadline:
                raise SystemExit(f"{title}: not within {LONGEST_CHANGE_SECONDS:g} s: {json.dumps(document)}")
            time.sleep(LOOK_EVERY_SECONDS)

    def share_of(self, revision: int, *, calls: int) -> float:
        """Which part of the next `calls` calls a revision answers."""
        before = self._callers.revisions.copy()
        while sum(now := (self._callers.revisions - before).values()) < calls and not self._callers.failures:
            time.sleep(LOOK_EVERY_SECONDS)
        counted = self._callers.revisions - before
        return counted[str(revision)] / max(1, sum(now))


def serves(revision: int, *, replicas: int = 1) -> Callable[[Document], bool]:
    return lambda it: (
        it["state"] == "running" and it["serving_revision"] == revision and it["ready_replicas"] == replicas
    )


def updated_reason(document: Document) -> str:
    return next((it["reason"] for it in document["conditions"] if it["type"] == "Updated"), "")


def play(run: Run) -> None:
    """Everything that may happen to a deployment that people rely on."""
    run.change("rolling update", "PATCH", body={"max_concurrency": 3}, until=serves(2))
    run.change("two replicas", "PATCH", body={"replicas": 2}, until=serves(2, replicas=2))
    run.change("rolling update of two", "PATCH", body={"max_concurrency": 2}, until=serves(3, replicas=2))
    run.change("rollback", "POST", "rollback/", {"revision": 1}, until=serves(4, replicas=2))
    run.change(
        "canary of 25 %",
        "PATCH",
        body={"max_concurrency": 5, "canary": {"weight": 25}},
        until=lambda it: updated_reason(it) == "Canary",
    )
    print(f"the canary answers {run.share_of(5, calls=400):.1%} of 400 calls", flush=True)
    run.change("promote", "POST", "promote/", until=serves(5, replicas=2))
    run.change(
        "canary of 50 %",
        "PATCH",
        body={"max_concurrency": 6, "canary": {"weight": 50}},
        until=lambda it: updated_reason(it) == "Canary",
    )
    run.change("abort", "POST", "abort/", until=serves(5, replicas=2))
    run.change("three replicas", "PATCH", body={"replicas": 3}, until=serves(5, replicas=3))
    run.change(
        "update of three that finds room for one",
        "PATCH",
        body={"max_concurrency": 7, "progress_deadline_seconds": 30},
        until=lambda it: it["state"] == "update_failed" and it["ready_replicas"] == 3,
    )
    run.change("one replica", "PATCH", body={"replicas": 1}, until=lambda it: it["ready_replicas"] == 1)
    run.change("update after it", "PATCH", body={"max_concurrency": 8}, until=serves(8))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    arguments.add_argument("--callers", type=int, default=6, help="at once")
    options = arguments.parse_args()
    print_machine("uvicorn", "aiohttp", "django", "torch")
    home = Path(tempfile.mkdtemp(prefix="marketplace-rollout-"))
    product = Product(home, real=True, cpu=CPU)
    callers: Callers | None = None
    try:
        product.up()
        credentials = json.loads((home / "credentials.json").read_text())
        wish = {"name": NAME, "model": MODEL, "flavor": "cpu-small"}
        made = product.request("POST", "deployments/", wish)
        callers = Callers(url=product.state.gateway_url, key=credentials["api_key"], count=options.callers)
        run = Run(product, callers, f"deployments/{made['id']}/")
        run.wait("the first start", serves(1))
        callers.start()
        play(run)
    finally:
        if callers is not None:
            callers.end()
        product.down()
    calls = sum(callers.revisions.values())
    print(
        f"{calls} calls answered by {len(callers.revisions)} revisions, {len(callers.failures)} failed, "
        f"slowest {callers.slowest:.2f} s"
    )
    print(*callers.failures[:20], sep="\n")
    shutil.rmtree(home)
    return 1 if callers.failures else 0


if __name__ == "__main__":
    sys.exit(main())
