"""One deployment's life on every implementation of the cluster port: the same states, the same events, in the
same order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.port import Cluster
from deployments.reconcile.reconciler import reconcile
from deployments.serving.models import Deployment
from marketplace.hardware.models import Cluster as ClusterRow
from tests.deployments.clusters.nodes import CONTAINER, LocalNode
from tests.deployments.reconcile.workloads import World
from tests.kubernetes.controlplane import real_kubeconfig
from tests.kubernetes.kubelet.fleet import Fleet
from tests.kubernetes.kubelet.nodes import Node
from tests.kubernetes.kubelet.processes import Processes
from tests.kubernetes.standin import StandIn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

IMAGES = {"marketplace/runtime-cpu": {"command": [*CONTAINER, "serve"], "environment": {"READY_AFTER": "2"}}}
"""A runtime that takes two seconds to load its model, so that nobody can miss that it loads."""


@dataclass(kw_only=True)
class Place:
    """A cluster whose one node comes and goes."""

    kind: str
    cluster: Cluster
    configuration: dict[str, Any] = field(default_factory=dict)
    node_up: Callable[[], None]
    node_down: Callable[[], None]


@contextmanager
def local(folder: Path) -> Iterator[Place]:
    node = LocalNode(folder)
    (folder / "images.json").write_text(json.dumps(IMAGES))
    try:
        yield Place(kind="local", cluster=node.cluster, node_up=node.start, node_down=node.stop)
    finally:
        node.close()


@contextmanager
def standin(folder: Path) -> Iterator[Place]:
    with StandIn() as control:
        yield from kubernetes(control.kubeconfig(folder / "kubeconfig"), folder)


@contextmanager
def real(folder: Path) -> Iterator[Place]:
    with real_kubeconfig(folder) as kubeconfig:
        yield from kubernetes(kubeconfig, folder)


def kubernetes(kubeconfig: Path, folder: Path) -> Iterator[Place]:
    (folder / "images.json").write_text(json.dumps(IMAGES))
    storage = folder / "storage"
    storage.mkdir()
    configuration = {
        "kubeconfig": str(kubeconfig),
        "installation": "same-everywhere",
        "storage": {"hostPath": {"path": str(storage)}},
    }
    node = Node(name="only", capacity={"cpu": "16", "memory": "64Gi"})
    with Fleet(
        kubeconfig, [], Processes(folder / "node", storage=storage, images=folder / "images.json")
    ) as fleet:
        yield Place(
            kind="kubernetes",
            cluster=KubernetesCluster(name="kubernetes", configuration=configuration),
            configuration=configuration,
            node_up=lambda: fleet.add(node),
            node_down=lambda: fleet.remove("only"),
        )


PLACES = {"local": local, "stand-in": standin, "kubernetes": real}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.cluster] if name == "kubernetes" else []) for name in PLACES
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as place:
        yield place


class RealClock:
    """The time, as the reconciler takes it."""

    def now(self) -> datetime:
        return timezone.now()


class Story:
    """Looks at a deployment until something holds, and notes every state on the way."""

    def __init__(self, cluster: Cluster, row: Deployment) -> None:
        self.cluster, self.row = cluster, row
        self.states: list[str] = []

    def until(self, holds: Callable[[Deployment], bool], *, what: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            reconcile(self.row.public_id, cluster=self.cluster)
            self.row.refresh_from_db()
            if not self.states or self.states[-1] != self.row.state:
                self.states.append(self.row.state)
            if holds(self.row):
                return
            assert time.monotonic() < deadline, (
                f"{what}: not within a minute; {self.states}, {self.row.conditions}"
            )
            time.sleep(0.05)


def test_a_deployment_lives_the_same_life_everywhere(place: Place, world: World) -> None:
    world.row = ClusterRow.objects.create(
        slug="place", region=world.market.region, kind=place.kind, configuration=place.configuration
    )
    world.clock = RealClock()  # type: ignore[assignment]
    bot = world.create_deployment()
    story = Story(place.cluster, bot)

    story.until(lambda row: row.state == "pending", what="waiting for a node")
    place.node_up()
    story.until(lambda row: row.state == "running", what="the first start")
    world.update(bot, revision=2)
    story.until(lambda row: row.state == "running" and row.serving_revision == 2, what="the new revision")
    story.until(lambda row: len(place.cluster.observe(bot.public_id).pods) == 1, what="the old one's end")
    world.pause(bot)
    story.until(lambda row: not place.cluster.observe(bot.public_id).pods, what="the pause")
    story.until(lambda row: row.state == "paused", what="the pause")
    place.node_down()
    world.resume(bot)
    story.until(lambda row: row.state == "pending", what="waiting for the node again")
    place.node_up()
    story.until(lambda row: row.state == "running", what="the second start")
    world.delete(bot)
    story.until(lambda row: place.cluster.observe(bot.public_id).is_empty, what="the end")
    story.until(lambda row: row.state == "deleted", what="the end")

    assert story.states == [
        *("pending", "initializing", "running"),
        *("updating", "running"),
        "paused",
        *("pending", "initializing", "running"),
        *("deleting", "deleted"),
    ]
    assert world.events(bot) == [
        *("Starting", "Running"),
        *("Updating", "RevisionServing", "Running"),
        "Paused",
        *("WaitingForCapacity", "Starting", "Running"),
        *("Deleting", "Deleted"),
    ]
    assert [replica.revision for replica in world.replicas(bot)] == [1, 2, 2]
