"""Clusters for the tests. `cluster` gives every implementation of the port in turn, running and empty of
the test's resources; `node` gives a local cluster whose process the test may kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest

from deployments.clusters.port import Cluster
from tests.deployments.clusters import manifests
from tests.deployments.clusters.nodes import LocalNode
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


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractContextManager[Cluster]]] = {"local": _local}
"""Every implementation of the port; each must pass test_contract.py."""


@pytest.fixture(scope="session", params=list(IMPLEMENTATIONS))
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
