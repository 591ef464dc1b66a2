"""What goes wrong around the reconciler: races, clusters that do not answer or refuse, bad rows, strays."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from deployments.clusters.errors import ClusterConflict, ClusterRejected, ClusterUnreachable
from deployments.clusters.site import LOCAL
from deployments.reconcile import leases
from deployments.reconcile import sweep as sweeping
from deployments.reconcile.leases import take_lease
from deployments.reconcile.manifests import serving_manifests
from deployments.reconcile.reconciler import Outcome, reconcile
from deployments.reconcile.sweep import Swept, sweep_cluster
from deployments.reconcile.tenancy import tenancy_manifests
from deployments.serving.models import Deployment, Replica, Revision
from deployments.tuning.models import FineTuningJob
from marketplace.catalog.models import ModelVersion
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Cluster
from tests.deployments.reconcile.memory_cluster import MemoryCluster, failing
from tests.deployments.reconcile.workloads import World, serving_spec

pytestmark = pytest.mark.django_db(transaction=True)


def row_versions() -> list[tuple[Any, ...]]:
    """PostgreSQL's own row versions of every table that the reconciler writes."""
    tables = ("serving_deployment", "serving_replica", "serving_event", "tuning_finetuningjob")
    with connection.cursor() as cursor:
        found = []
        for table in (*tables, "billing_usageinterval"):
            cursor.execute(f"SELECT '{table}', id, xmin::text FROM {table} ORDER BY id")
            found += cursor.fetchall()
    return found


def test_a_settled_system_is_silent(world: World) -> None:
    world.running(name="one")
    paused = world.running(name="two")
    world.pause(paused)
    world.reconcile(paused)
    world.cluster.let_go()
    world.settle()
    before = row_versions()
    reads, writes = world.cluster.reads, list(world.cluster.writes)

    for _ in range(2):
        world.clock.advance(5)
        assert world.look().rung == []

    assert row_versions() == before
    assert world.cluster.writes == writes
    assert world.cluster.reads == reads + 2


def test_two_at_once_do_the_work_once(world: World) -> None:
    bot = world.create_deployment()
    inside, go_on = threading.Event(), threading.Event()

    def wait_inside(call: str) -> None:
        inside.set()
        assert go_on.wait(20)

    world.cluster.before_call = wait_inside
    outcomes: list[Outcome] = []

    def first() -> None:
        outcomes.append(reconcile(bot.public_id, cluster=world.cluster, now=world.clock.now))
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(20)
    second = reconcile(bot.public_id, cluster=world.cluster, now=world.clock.now)
    world.cluster.before_call = lambda call: None
    go_on.set()
    thread.join(20)

    assert (second, outcomes) == (Outcome.BUSY, [Outcome.DONE])
    assert len(world.cluster.writes) == 3


def test_a_customer_who_changes_the_wish_meanwhile_is_not_overlooked(world: World) -> None:
    bot = world.running()
    calls = []

    def delete_while_observing(call: str) -> None:
        calls.append(call)
        if calls == ["observe"]:
            world.delete(bot)

    world.cluster.before_call = delete_while_observing
    assert world.reconcile(bot) is Outcome.DONE
    assert (bot.state, bot.observed_generation) == ("deleting", 2)
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert bot.state == "deleted"


def test_pods_that_somebody_has_left_behind_are_taken_back(world: World) -> None:
    bot = world.running()
    before = [pod.uid for pod in world.cluster.pods(bot.public_id)]
    world.cluster.leave_pods(bot.public_id, kind="Deployment")
    world.settle()

    bot.refresh_from_db()
    assert ([pod.uid for pod in world.cluster.pods(bot.public_id)], bot.state) == (before, "running")


@pytest.mark.parametrize("wish", ["pause", "delete"])
def test_pods_that_somebody_has_left_behind_end_when_they_are_not_wanted(world: World, wish: str) -> None:
    bot = world.running()
    world.cluster.leave_pods(bot.public_id, kind="Deployment")
    getattr(world, wish)(bot)
    world.reconcile(bot)
    assert world.cluster.pods(bot.public_id) == []
    world.cluster.let_go()
    world.settle()

    bot.refresh_from_db()
    assert (bot.state, world.cluster.objects(bot.public_id)) == (f"{wish}d", [])


def test_the_sweep_ends_pods_without_a_row(world: World) -> None:
    bot = world.running()
    (pod,) = world.cluster.pods(bot.public_id)
    Deployment.objects.all().delete()
    world.cluster.leave_pods(bot.public_id, kind="Deployment")

    assert f"Pod {pod.namespace}/{pod.name}" in world.look().orphans
    assert world.cluster.pods(bot.public_id) == []


def test_the_sweep_removes_what_is_where_no_look_would_find_it(world: World) -> None:
    bot = world.running()
    (service,) = (it for it in world.cluster.observe(bot.public_id).objects if it.ref.kind == "Service")
    manifest = world.cluster.manifest(service.ref)
    world.cluster.apply({**manifest, "metadata": {**manifest["metadata"], "namespace": "default"}})

    swept = world.look()

    assert (swept.orphans, swept.rung) == ([f"Service default/{service.ref.name}"], [])
    assert world.cluster.objects(bot.public_id).count(f"Service {service.ref.name}") == 2
    world.cluster.let_go()
    assert world.cluster.objects(bot.public_id).count(f"Service {service.ref.name}") == 1
    assert (world.look().orphans, world.reconcile(bot)) == ([], Outcome.DONE)


def test_a_wish_during_the_last_call_is_seen_before_the_lease_ends(world: World) -> None:
    bot = world.create_deployment()
    changed = []

    def pause_after_the_last_write() -> None:
        if len(world.cluster.writes) == 3 and not changed:
            changed.append(True)
            world.pause(bot)

    world.cluster.after_write = pause_after_the_last_write
    world.cluster.lingers = False
    world.reconcile(bot)
    assert (bot.state, bot.observed_generation) == ("paused", 2)
    assert world.cluster.objects(bot.public_id) == []


def test_whoever_has_lost_the_lease_writes_nothing_more(world: World) -> None:
    bot = world.create_deployment()
    world.reconcile(bot)
    world.cluster.make_ready(bot.public_id)
    before = row_versions()

    def lose_the_lease(call: str) -> None:
        Deployment.objects.update(lease_token="somebody-else")

    world.cluster.before_call = lose_the_lease
    assert world.reconcile(bot) is Outcome.BUSY
    assert (bot.state, bot.lease_token) == ("pending", "somebody-else")
    # The row itself has a new version: the lease was taken.
    assert row_versions()[1:] == before[1:]
    assert bot.failures == 0


def test_whoever_loses_the_lease_while_copying_a_result_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.create_job()
    world.reconcile(job)
    world.cluster.start(job.public_id)
    world.cluster.finish(job.public_id)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)  # so that every chunk is one too many

    def lose_the_lease(call: str) -> None:
        if call == "logs":
            FineTuningJob.objects.update(lease_token="somebody-else")

    world.cluster.before_call = lose_the_lease
    assert world.reconcile(job) is Outcome.BUSY
    assert not ModelVersion.objects.filter(is_adapter=True).exists()


def test_a_lost_doorbell_is_found_by_the_sweep(world: World) -> None:
    bot = world.create_deployment()
    assert world.look().rung == [bot.public_id]


def test_it_is_paused_only_when_nothing_is_seen(world: World) -> None:
    bot = world.running()
    world.pause(bot)
    world.reconcile(bot)
    assert (bot.state, bot.ready_replicas) == ("running", 0)
    assert bot.conditions[0]["reason"] == "Stopping"
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision) == ("paused", None)


def test_a_cluster_that_does_not_answer_is_not_taken_for_observed(world: World) -> None:
    world.running()
    world.settle()
    before = Cluster.objects.get(pk=world.row.pk).observed_at
    assert before == world.clock.now()
    world.clock.advance(60)
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("no route"))
    sweeping.sweep(ring=lambda resource: None, now=world.clock.now, open_cluster=lambda _: world.cluster)
    assert Cluster.objects.get(pk=world.row.pk).observed_at == before


def test_a_cluster_that_does_not_answer_changes_no_state(world: World) -> None:
    bot = world.running()
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("connection refused"))
    assert world.reconcile(bot) is Outcome.STEPPED_ASIDE
    assert (bot.state, bot.failures, bot.lease_token) == ("running", 1, "")
    assert bot.conditions[-1]["reason"] == "Unreachable"
    assert bot.next_look_at > timezone.now()
    assert reconcile(bot.public_id, cluster=world.cluster, patient=True) is Outcome.RESTING

    world.cluster.before_call = lambda call: None
    assert world.reconcile(bot) is Outcome.DONE
    assert (bot.failures, bot.conditions[-1]["reason"]) == (0, "AsWanted")


def test_a_customers_change_does_not_wait_for_a_row_that_rests(world: World) -> None:
    bot = world.running()
    Deployment.objects.update(failures=1, next_look_at=timezone.now() + timedelta(hours=1))
    assert take_lease(Deployment.objects.all(), bot.public_id, patient=True) is None
    world.pause(bot)
    assert world.look().rung == [bot.public_id]
    assert take_lease(Deployment.objects.all(), bot.public_id, patient=True) is not None


def test_an_object_that_the_cluster_refuses_fails_with_its_field(world: World) -> None:
    bot = world.create_deployment()
    error = ClusterRejected("65 is too many", field="spec.replicas")
    world.cluster.before_call = failing(call="apply", error=error)
    assert world.reconcile(bot) is Outcome.STEPPED_ASIDE
    assert bot.state == "failed"
    condition = bot.conditions[0]
    assert (condition["reason"], "spec.replicas" in condition["message"]) == ("Rejected", True)
    assert world.look().rung == []  # it rests

    world.cluster.before_call = lambda call: None
    world.clock.advance(600)
    world.settle()
    bot.refresh_from_db()
    assert bot.state == "pending"


def test_a_refused_update_leaves_the_old_revision_serving(world: World) -> None:
    bot = world.running()
    world.update(bot, revision=2)
    world.cluster.before_call = failing(call="apply", error=ClusterRejected("no"))
    world.reconcile(bot)
    assert (bot.state, bot.serving_revision, bot.ready_replicas) == ("update_failed", 1, 1)


def test_a_bad_row_steps_aside_and_blocks_no_other(world: World) -> None:
    bad, good = world.create_deployment(name="bad"), world.create_deployment(name="good")
    Revision.objects.filter(deployment=bad).update(spec={"nonsense": True})
    assert sorted(world.look().rung) == sorted([bad.public_id, good.public_id])
    with pytest.raises(KeyError):
        world.reconcile(bad)
    world.reconcile(good)
    bad.refresh_from_db()
    assert (bad.failures, bad.conditions[-1]["reason"]) == (1, "InternalError")
    assert world.look().rung == []


def test_a_conflict_that_lasts_is_told_as_one(world: World) -> None:
    bot = world.create_deployment()
    world.cluster.before_call = failing(call="apply", error=ClusterConflict("the namespace is being deleted"))
    assert world.reconcile(bot) == "stepped aside"
    assert (bot.failures, bot.conditions[-1]["reason"]) == (1, "Conflict")


def test_what_a_row_of_another_cluster_owns_is_no_orphan(world: World) -> None:
    """Two rows may lead to one cluster by mistake."""
    bot = world.running()
    twin = Cluster.objects.create(slug="twin", region=world.row.region, kind="local")
    swept = Swept()
    sweep_cluster(twin, cluster=world.cluster, ring=swept.rung.append, now=timezone.now, swept=swept)
    assert swept.orphans == []
    assert world.look().rung == []
    assert bot.state == "running"


def test_stray_objects_are_removed_and_then_the_namespace_of_a_stranger(world: World) -> None:
    gone = "org_00000000000000000000000000"
    spec = serving_spec(resource="dep_00000000000000000000000000", organization=gone)
    shared = tenancy_manifests(gone, attachment=Attachment.DEVICE_PLUGIN, limits={}, site=LOCAL)
    for manifest in (*shared, *serving_manifests(spec, replicas=1, site=LOCAL)):
        world.cluster.apply(manifest)
    swept = world.look()
    assert (len(swept.orphans), swept.mended) == (2, [])
    world.cluster.let_go()
    swept = world.look()
    namespace = "Namespace org-00000000000000000000000000"
    assert (swept.orphans, swept.mended) == ([], [f"delete {namespace}: what it was for is gone"])


def test_what_comes_back_after_deletion_is_removed_again(world: World) -> None:
    bot = world.running()
    (spec,) = (revision.spec for revision in Revision.objects.all())
    world.end(bot)
    late = serving_spec(resource=bot.public_id, organization=spec["organization"])
    world.cluster.apply(serving_manifests(late, replicas=1, site=LOCAL)[0])
    world.settle()
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, world.cluster.objects(bot.public_id)) == ("deleted", [])
    assert not Replica.objects.filter(finished_at=None, vanished_at=None).exists()


def test_a_deployment_deleted_by_hand_comes_back(world: World) -> None:
    bot = world.running()
    objects = world.cluster.objects(bot.public_id)
    world.cluster.remove_by_hand(bot.public_id, kind="Deployment")
    world.settle()
    assert world.cluster.objects(bot.public_id) == objects


def test_one_cluster_that_is_down_does_not_stop_the_others(world: World) -> None:
    bot = world.create_deployment()
    down = Cluster.objects.create(slug="a-down", region=world.row.region, kind="local")
    clusters = {world.row.slug: world.cluster, down.slug: MemoryCluster(name=down.slug)}
    clusters[down.slug].before_call = failing(call="observe", error=ClusterUnreachable("no route"))
    rung: list[str] = []
    swept = sweeping.sweep(ring=rung.append, open_cluster=lambda row: clusters[row.slug])
    assert swept is not None
    assert (swept.unreachable, rung) == ([down.slug], [bot.public_id])


def test_a_wish_whose_worker_died_says_that_its_cluster_is_down(world: World) -> None:
    bot = world.create_deployment()
    Deployment.objects.update(lease_token="of a worker that was killed")
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("no route"))
    rung: list[str] = []
    sweeping.sweep(ring=rung.append, open_cluster=lambda _: world.cluster)
    assert bot.public_id in rung


def test_a_second_sweep_goes_away(world: World) -> None:
    def sweep_inside(row: Cluster) -> MemoryCluster:
        found: list[Any] = []

        def another() -> None:
            found.append(sweeping.sweep(ring=lambda resource: None, open_cluster=lambda row: world.cluster))
            connection.close()

        thread = threading.Thread(target=another)
        thread.start()
        thread.join(20)
        assert found == [None]
        return world.cluster

    assert sweeping.sweep(ring=lambda resource: None, open_cluster=sweep_inside) is not None
