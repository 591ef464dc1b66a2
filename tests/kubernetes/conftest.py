"""A stand-in, its nodes, and hands to act on it, for the tests of the stand-in itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.api.server import Deletion, Write
from tests.kubernetes.controllers.manager import Pace
from tests.kubernetes.kubelet.fleet import Fleet
from tests.kubernetes.kubelet.nodes import Node
from tests.kubernetes.kubelet.scripted import Scripted, Step
from tests.kubernetes.standin import StandIn
from tests.processes import wait_until


class Hands:
    """Acts on the objects of a stand-in in the namespace `default`, and looks at them."""

    def __init__(self, standin: StandIn, fleet: Fleet, scripted: Scripted) -> None:
        self.standin, self.fleet, self.scripted = standin, fleet, scripted

    def apply(self, kind: str, name: str, **value: Any) -> None:
        manifest = {"metadata": {"name": name}, **value}
        write = Write(manager="tests", force=True)
        self.standin.do(
            lambda server: server.apply(server.kinds[kind], _place(server, kind), name, manifest, write)
        )

    def delete(self, kind: str, name: str, **options: Any) -> None:
        self.standin.do(
            lambda server: server.delete(server.kinds[kind], _place(server, kind), name, Deletion(**options))
        )

    def get(self, kind: str, name: str) -> Mapping[str, Any] | None:
        return self.standin.do(
            lambda server: getattr(
                server.store.get(server.kinds[kind], _place(server, kind), name), "value", None
            )
        )

    def all(self, kind: str) -> list[Mapping[str, Any]]:
        return self.standin.do(lambda server: [item.value for item in server.store.all(server.kinds[kind])])

    def conditions(self, kind: str, name: str) -> dict[str, Mapping[str, Any]]:
        status = (self.get(kind, name) or {}).get("status") or {}
        return {item["type"]: item for item in status.get("conditions") or ()}

    def play(self, pod: Mapping[str, Any], *steps: Step) -> None:
        """Makes a pod do something from now on."""
        self.fleet.do(lambda: self.scripted.play(pod["metadata"]["uid"], steps))

    def wait(self, holds: Callable[[], Any], what: str) -> Any:
        """What the question is answered with, once it is something."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [holds()]
            return bool(found[0])

        wait_until(look, what=what)
        return found[0]


def _place(server: Any, kind: str) -> str:
    return "default" if server.kinds[kind].namespaced else ""


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """A stand-in with one node of 8 CPUs and 2 GPUs, whose pods do as they are told."""
    scripted = Scripted(backoff_seconds=0.05)
    node = Node(name="gpu-1", capacity={"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"})
    pace = Pace(job_backoff=0.05, node_grace=3.0, toleration=0.2)
    with (
        StandIn(pace=pace) as standin,
        Fleet(standin.kubeconfig(tmp_path / "kubeconfig"), [node], scripted) as fleet,
    ):
        yield Hands(standin, fleet, scripted)
