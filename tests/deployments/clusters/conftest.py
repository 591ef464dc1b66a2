"""Clusters for the tests. `cluster` gives every implementation of the port in turn, running and empty of
the test's resources; `node` gives a local cluster whose process the test may kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest

from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.port import Cluster
from tests.deployments.clusters import manifests
from tests.deployments.clusters.nodes import CONTAINER, LocalNode
from tests.kubernetes.controlplane import real_kubeconfig
from tests.kubernetes.kubelet.fleet import Fleet
from tests.kubernetes.kubelet.nodes import Node
from tests.kubernetes.kubelet.processes import Processes
from tests.kubernetes.standin import StandIn
from tests.processes import wait_until


@contextmanager
def _local(folder: Path) -> Iterator[Cluster]:
    node = LocalNode(folder)
    try:
        node.start()
        yield node.cluster
        node.stop()
        assert node.processes() == []
    finally:
        node.close()


@contextmanager
def _standin(folder: Path) -> Iterator[Cluster]:
    with StandIn() as standin:
        yield from _kubernetes(standin.kubeconfig(folder / "kubeconfig"), folder, standin=standin)


@contextmanager
def _real(folder: Path) -> Iterator[Cluster]:
    with real_kubeconfig(folder) as kubeconfig:
        yield from _kubernetes(kubeconfig, folder)


def _kubernetes(kubeconfig: Path, folder: Path, *, standin: StandIn | None = None) -> Iterator[Cluster]:
    """The port to a control plane with one node that runs containers as processes."""
    images = folder / "images.json"
    images.write_text(json.dumps({"tests/container": {"command": CONTAINER}}))
    runner = Processes(folder / "node", storage=folder / "storage", images=images)
    node = Node(name="local", capacity={"cpu": "64", "memory": "64Gi"})
    if standin is not None:
        standin.serve_logs(runner.read_log)
    with Fleet(kubeconfig, [node], runner):
        yield KubernetesCluster(
            name="kubernetes", configuration={"kubeconfig": str(kubeconfig), "installation": "contract"}
        )


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractContextManager[Cluster]]] = {
    "local": _local,
    "stand-in": _standin,
    "kubernetes": _real,
}
"""Every implementation of the port; each must pass test_contract.py."""


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=[pytest.mark.cluster] if name == "kubernetes" else [])
        for name in IMPLEMENTATIONS
    ],
)
def shared_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with IMPLEMENTATIONS[request.param](tmp_path_factory.mktemp(request.param)) as cluster:
        cluster.apply(manifests.namespace())
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    yield shared_cluster
    for item in shared_cluster.observe().objects:
        if item.resource:
            shared_cluster.delete(item.ref)
    wait_until(lambda: not shared_cluster.observe().resources, what="the end of the test's objects")


@pytest.fixture
def new_id() -> Callable[[str], str]:
    """Makes public ids that no other test uses."""
    return lambda prefix: f"{prefix}_test{next(_numbers)}"


_numbers = count(1)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalNode]:
    """A local cluster of the test's own, with its namespace, running."""
    node = LocalNode(tmp_path)
    node.cluster.apply(manifests.namespace())
    try:
        node.start()
        yield node
    finally:
        node.close()
