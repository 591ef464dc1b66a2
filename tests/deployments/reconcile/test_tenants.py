"""Namespaces of organizations on a cluster: made ready, mended, removed; and a settled one is left in
peace."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from deployments.clusters.errors import ClusterConflict, ClusterRejected
from deployments.clusters.port import ObjectRef
from deployments.reconcile import tenants
from deployments.reconcile.names import namespace_name
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World
from tests.market import Market

pytestmark = pytest.mark.django_db(transaction=True)

CONFIGURATION = {"storage": {"nfs": {"server": "storage.example", "path": "/exports"}}}
SHARED = ["LimitRange marketplace", "NetworkPolicy callers", "NetworkPolicy closed"]


@pytest.fixture
def world(market: Market, acme: Organization, tmp_path: Path, settings: Settings) -> World:
    settings.STORAGE_ROOT = tmp_path
    market.cluster.kind = "kubernetes"
    market.cluster.configuration = CONFIGURATION
    market.cluster.save()
    return World(market=market, organization=acme, row=market.cluster)


def shared(world: World) -> list[str]:
    namespace = namespace_name(world.organization.public_id)
    return sorted(
        [
            *SHARED,
            f"Namespace {namespace}",
            f"PersistentVolume {namespace}-storage",
            "PersistentVolumeClaim marketplace-storage",
            "ResourceQuota marketplace",
        ]
    )


def running(world: World):
    bot = world.create_deployment()
    world.settle()
    world.cluster.make_ready(bot.public_id)
    world.settle()
    return bot


def test_the_first_workload_finds_its_namespace_ready(world: World) -> None:
    running(world)
    assert world.cluster.objects("") == shared(world)
    kinds = [write.split()[1] for write in world.cluster.writes]
    assert kinds.index("Namespace") < kinds.index("PersistentVolumeClaim") < kinds.index("Deployment")


def test_the_second_does_not_apply_it_again(world: World) -> None:
    running(world)
    world.cluster.writes.clear()
    world.reconcile(world.create_deployment(name="second"))
    assert [write.split()[1] for write in world.cluster.writes] == ["Deployment", "Service"]


def test_a_settled_namespace_is_left_in_peace(world: World) -> None:
    running(world)
    world.cluster.writes.clear()
    assert [world.look().mended for _ in range(3)] == [[], [], []]
    assert world.cluster.writes == []


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ResourceQuota", "LimitRange", "PersistentVolumeClaim"])
def test_what_somebody_deletes_comes_back(world: World, kind: str) -> None:
    running(world)
    world.cluster.remove_by_hand("", kind=kind)
    assert world.cluster.objects("") != shared(world)
    assert all(change.endswith("it is not there") for change in world.look().mended)
    assert world.cluster.objects("") == shared(world)


def test_a_quota_follows_the_organizations_own(world: World) -> None:
    running(world)
    Quota.objects.create(organization=world.organization, accelerator_family="cpu", limit=12)
    namespace = namespace_name(world.organization.public_id)
    assert world.look().mended == [f"apply ResourceQuota {namespace}/marketplace: it is not as wanted"]
    ref = ObjectRef("v1", "ResourceQuota", namespace, "marketplace")
    assert world.cluster.manifest(ref)["spec"]["hard"]["requests.cpu"] == "24"
    assert world.look().mended == []


def test_shared_objects_are_no_orphans_and_outlive_the_workloads(world: World) -> None:
    bot = running(world)
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    swept = world.look()
    assert (swept.orphans, swept.mended) == ([], [])
    assert world.cluster.objects("") == shared(world)


def test_a_volume_that_the_site_no_longer_names_is_removed(world: World) -> None:
    running(world)
    world.row.configuration = {}
    world.row.save()
    namespace = namespace_name(world.organization.public_id)
    assert sorted(world.look().mended) == [
        f"delete PersistentVolume {namespace}-storage: nothing shares it any more",
        f"delete PersistentVolumeClaim {namespace}/marketplace-storage: nothing shares it any more",
    ]


def test_a_namespace_that_vanished_a_moment_ago_is_made_ready_again(world: World) -> None:
    running(world)
    for kind in ("Namespace", "ResourceQuota", "NetworkPolicy", "LimitRange", "PersistentVolumeClaim"):
        world.cluster.remove_by_hand("", kind=kind)
    bot = world.create_deployment(name="second")
    refusals = iter([ClusterConflict("namespaces not found")])

    def before_call(name: str) -> None:
        if name == "apply" and (refusal := next(refusals, None)):
            raise refusal

    world.cluster.before_call = before_call
    world.reconcile(bot)
    assert world.cluster.objects("") == shared(world)
    assert len(world.cluster.objects(bot.public_id)) == 2
    bot.refresh_from_db()
    assert bot.failures == 0


def test_what_the_cluster_refuses_does_not_keep_the_rest_from_being_mended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world)
    for kind in ("ResourceQuota", "LimitRange"):
        world.cluster.remove_by_hand("", kind=kind)
    world.cluster.before_call = failing(call="apply", error=ClusterRejected("no"), times=1)
    assert len(world.look().mended) == 1
    assert world.look().mended == []  # it is not asked again at once
    monkeypatch.setattr(tenants, "REMEMBERED_SECONDS", 0.0)
    tenants.forget(world.cluster)
    assert len(world.look().mended) == 1
    assert world.cluster.objects("") == shared(world)


def test_the_namespace_of_an_organization_that_is_gone_goes_with_its_volume(world: World) -> None:
    world.cluster.lingers = False
    gone = Organization.objects.create(slug="gone", name="Gone")
    name = namespace_name(gone.public_id)
    tenants.make_ready([name], organization=gone, row=world.row, cluster=world.cluster)
    assert f"PersistentVolume {name}-storage" in world.cluster.objects("")
    gone.delete()
    for _ in range(2):
        world.look()
    left = [item for item in world.cluster.objects("") if item.startswith(("Namespace", "PersistentVolume "))]
    assert left == []
