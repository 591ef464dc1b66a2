"""Two installations with one label: the first keeps its objects, the second is told what to change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.clusters.errors import ClusterMisconfigured
from deployments.clusters.kubernetes import claim
from deployments.clusters.kubernetes.claim import claim_manifest
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.models import Installation, identity_of_database
from deployments.clusters.port import ObjectRef
from tests.deployments.clusters import manifests
from tests.deployments.clusters.manifests import service
from tests.kubernetes.standin import StandIn
from tests.processes import wait_until

FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def kubeconfig(tmp_path) -> Iterator[str]:
    with StandIn() as standin:
        yield str(standin.kubeconfig(tmp_path / "kubeconfig"))


@pytest.fixture
def opened(kubeconfig):
    def opened(database, installation="marketplace"):
        configuration = {"kubeconfig": kubeconfig, "installation": installation}
        return KubernetesCluster(name="shared", configuration=configuration, database=database)

    return opened


def refs(cluster):
    return {item.ref.name for item in cluster.observe().objects}


def calls(cluster):
    """Everything that could make one installation take another's objects for its own."""
    ref = ObjectRef.of(service("dep_1"))
    return [
        cluster.observe,
        lambda: cluster.observe("dep_1", namespaces=[manifests.NAMESPACE]),
        lambda: cluster.events("dep_1"),
        lambda: cluster.apply(service("dep_1")),
        lambda: cluster.delete(ref),
        lambda: cluster.watch(threading.Event()),
    ]


def test_another_database_with_the_same_label_is_refused_before_it_sees_or_deletes_anything(opened):
    first, second = opened(FIRST), opened(SECOND)
    first.apply(manifests.namespace())
    first.apply(service("dep_1"))
    before = first.observe()
    for call in calls(second):
        with pytest.raises(ClusterMisconfigured) as refusal:
            call()
        assert refusal.value.field == "installation"
        assert str(refusal.value).startswith(
            "another installation with the label 'marketplace' uses this cluster: give each its own "
            "`installation` in the cluster's configuration."
        )
    assert first.observe() == before


def test_an_installation_that_was_there_before_claims_what_it_has(opened):
    before_claims = opened("")
    before_claims.apply(manifests.namespace())
    before_claims.apply(service("dep_1"))
    seen = refs(before_claims)

    assert refs(opened(FIRST)) == seen  # the claim itself is none of what is observed
    with pytest.raises(ClusterMisconfigured):
        opened(SECOND).observe()


def test_every_process_of_one_installation_and_every_label_has_its_claim(opened):
    for _ in range(2):
        assert opened(FIRST).observe().is_empty
    assert opened(SECOND, "Another.One").observe().is_empty


def is_taken_in(cluster):
    """Whether the cluster lets an installation look at it."""
    try:
        cluster.observe()
    except ClusterMisconfigured:
        return False
    return True


def test_of_many_that_come_at_once_one_database_wins(opened):
    clusters = [opened(f"{number:08}-1111-4111-8111-111111111111") for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(is_taken_in, clusters)) == [False] * 5 + [True]


def test_the_label_is_free_again_once_its_claim_is_deleted(opened, monkeypatch):
    monkeypatch.setattr(claim, "REMEMBERED_SECONDS", 0.0)
    first, second = opened(FIRST), opened(SECOND)
    first.observe()
    # As staff do with kubectl, when the first installation is no more.
    opened("").delete(ObjectRef.of(claim_manifest(installation="marketplace", database=FIRST)))
    wait_until(lambda: is_taken_in(second), what="the end of the claim")
    assert not is_taken_in(first)


@pytest.mark.django_db
def test_a_database_has_one_identity():
    assert identity_of_database() == identity_of_database() == str(Installation.objects.get().identity)
