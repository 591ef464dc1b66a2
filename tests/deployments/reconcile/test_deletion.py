"""A deletion ends: with nothing left and a receipt, or with somebody named who holds it."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from deployments.clusters.errors import ClusterForbidden, ClusterUnreachable
from deployments.clusters.port import ObjectRef, Observation, ObservedObject, ObservedPod
from deployments.reconcile import sweep as sweeping
from deployments.reconcile.conditions import Problem
from deployments.reconcile.deletion import Asked, decide_deletion, foreign
from deployments.reconcile.reconciler import reconcile
from deployments.serving.models import Deletion, DeletionReceipt, Deployment, Plan, Revision
from deployments.tuning.models import FineTuningJob
from marketplace.hardware.models import Cluster
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASKED = Asked(requested_at=NOON, deadline=NOON + timedelta(minutes=10))
LATE = NOON + timedelta(minutes=11)
SERVICE = ObservedObject(
    ref=ObjectRef("v1", "Service", "org", "dep-1"),
    uid="2",
    resource="dep_1",
    revision=1,
    spec_hash="h",
    deleting_since=NOON,
    finalizers=("foregroundDeletion", "example.com/guard"),
)
POD = ObservedPod(
    uid="1",
    name="dep-1-r1-abc",
    namespace="org",
    resource="dep_1",
    revision=1,
    phase="Running",
    created_at=NOON,
    node="n1",
    deleting_since=NOON,
)
SINCE = "2026-03-01T12:00:00+00:00"
END = "The provider has to mend this; we keep trying, and nothing of it is billed."

STUCK: list[tuple[str, Observation, Problem | None, tuple[str, str]]] = [
    (
        "a finalizer of somebody else",
        Observation(objects=(SERVICE,), pods=(POD,)),
        None,
        (
            "ForeignFinalizer",
            f"Service org/dep-1 is held by the finalizer example.com/guard since {SINCE}: whatever runs for "
            "example.com on the cluster has to let it go.",
        ),
    ),
    (
        "two of them",
        Observation(objects=(SERVICE,), pods=(replace(POD, finalizers=("acme.io/keep",)),)),
        None,
        (
            "ForeignFinalizer",
            f"Service org/dep-1 is held by the finalizer example.com/guard since {SINCE} (and 1 more): "
            "whatever runs for example.com on the cluster has to let it go.",
        ),
    ),
    (
        "a pod on a node that is gone",
        Observation(pods=(POD,)),
        None,
        (
            "PodDoesNotEnd",
            f"Pod org/dep-1-r1-abc on node n1, which may be lost, was asked to go at {SINCE} and is still "
            "there.",
        ),
    ),
    (
        "an object that Kubernetes does not finish with",
        Observation(objects=(replace(SERVICE, finalizers=("foregroundDeletion",)),)),
        None,
        ("ObjectDoesNotGo", f"Service org/dep-1 was asked to go at {SINCE} and is still there."),
    ),
    (
        "a right that we lack",
        Observation(objects=(replace(SERVICE, finalizers=(), deleting_since=None),)),
        Problem(reason="Forbidden", message="We are not allowed to do this."),
        ("Forbidden", "We are not allowed to do this."),
    ),
]


@pytest.mark.parametrize(("seen", "problem", "expected"), [c[1:] for c in STUCK], ids=[c[0] for c in STUCK])
def test_a_deletion_past_its_deadline_says_what_holds_it(
    seen: Observation, problem: Problem | None, expected: tuple[str, str]
) -> None:
    early = decide_deletion(ASKED, seen, now=NOON, problem=problem)
    assert "DeletionStuck" not in [condition.type for condition in early.conditions]
    late = decide_deletion(ASKED, seen, now=LATE, problem=problem)
    (stuck,) = (condition for condition in late.conditions if condition.type == "DeletionStuck")
    reason, words = expected
    assert (stuck.holds, stuck.reason) == (True, reason)
    assert stuck.message == f"Not gone by its deadline. {words} {END}"


def test_the_inventory_names_everything_that_is_left() -> None:
    claim = replace(
        SERVICE,
        ref=ObjectRef("v1", "PersistentVolumeClaim", "org", "dep-1"),
        finalizers=("kubernetes.io/pvc-protection",),
        deleting_since=None,
    )
    deleting = decide_deletion(ASKED, Observation(objects=(SERVICE, claim), pods=(POD,)), now=NOON)
    common = {"going_since": SINCE, "finalizers": [], "node": ""}
    assert list(deleting.inventory) == [
        common | {"kind": "object", "name": "Service org/dep-1", "finalizers": ["example.com/guard"]},
        common | {"kind": "pod", "name": "Pod org/dep-1-r1-abc", "node": "n1"},
        common | {"kind": "volume", "name": "PersistentVolumeClaim org/dep-1", "going_since": None},
    ]
    assert deleting.conditions[0].message == (
        "Still on the cluster: 1 replica and 1 object and 1 volume; held by example.com/guard."
    )
    assert [str(step) for step in deleting.steps] == [
        "delete PersistentVolumeClaim org/dep-1: the deployment is deleted"
    ]


def test_only_finalizers_of_others_are_foreign() -> None:
    names = ["orphan", "batch.kubernetes.io/job-tracking", "foo.k8s.io/x", "kubernetes.io/pvc-protection"]
    assert foreign([*names, "example.com/b", "notkubernetes.io/a"]) == ["example.com/b", "notkubernetes.io/a"]


def test_nothing_is_new_while_nothing_changes() -> None:
    seen = Observation(pods=(POD,))
    first = decide_deletion(ASKED, seen, now=NOON)
    known = replace(ASKED, inventory=list(first.inventory))
    assert decide_deletion(known, seen, now=NOON).record is None


# --- With a database and a cluster in memory ---------------------------------------------------------------


def condition(row: Any, type: str) -> dict[str, str]:
    found: dict[str, str] = next(it for it in row.conditions if it["type"] == type)
    return found


@pytest.mark.django_db(transaction=True)
def test_a_receipt_is_issued_when_the_cluster_shows_nothing(world: World) -> None:
    bot = world.running()
    world.clock.advance(90)
    requested = world.clock.now()
    world.delete(bot)
    world.settle()
    world.clock.advance(20)
    assert not DeletionReceipt.objects.exists()
    world.cluster.let_go()
    world.settle()
    receipt = DeletionReceipt.objects.get()
    assert (receipt.resource, receipt.resource_name, receipt.organization) == (
        bot.public_id,
        "bot",
        world.organization,
    )
    assert (receipt.requested_at, receipt.requested_by) == (requested, "alice@example.com")
    assert (receipt.last_billed_at, receipt.gone_at) == (requested, world.clock.now())
    assert receipt.totals == [{"currency": "EUR", "amount": "0.00", "billed_seconds": "90"}]
    assert (receipt.inventory, receipt.observation) == (
        [],
        {
            "cluster": world.row.slug,
            "observed_at": world.clock.now().isoformat(),
            "selector": f"marketplace/resource={bot.public_id}",
        },
    )


@pytest.mark.django_db(transaction=True)
def test_a_receipt_is_never_changed_nor_removed(world: World) -> None:
    bot = world.running()
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    for statement in (
        "UPDATE serving_deletionreceipt SET totals = '[]'",
        "DELETE FROM serving_deletionreceipt",
    ):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_a_held_deletion_alerts_once_at_its_deadline_and_ends_when_it_is_let_go(
    world: World, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    settings.DELETION_SECONDS = 300
    bot = world.running()
    world.cluster.hold(bot.public_id, kind="Service", finalizer="example.com/guard")
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert condition(bot, "Ready")["message"] == (
        "Still on the cluster: 1 object; held by example.com/guard."
    )
    assert world.look().rung == []  # nothing to do but wait
    world.clock.advance(300)
    with caplog.at_level(logging.ERROR, logger="deployments.reconcile.receipts"):
        world.settle()
        world.clock.advance(60)
        world.settle()
    bot.refresh_from_db()
    deletion = Deletion.objects.get()
    assert condition(bot, "DeletionStuck")["reason"] == "ForeignFinalizer"
    assert (bot.explanation["reason"], bot.explanation["who"]) == ("DeletionStuck", "provider")
    assert deletion.stuck_at == world.clock.now() - timedelta(seconds=60)
    (alert,) = (it for it in caplog.records if it.levelno == logging.ERROR)
    assert alert.getMessage().startswith(f"deletion {deletion.public_id} of {bot.public_id} is stuck: ")
    assert world.events(bot)[-1] == "DeletionStuck"
    assert not DeletionReceipt.objects.exists()

    world.cluster.hold(bot.public_id, kind="Service", finalizer="")
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    deletion.refresh_from_db()
    assert (bot.state, deletion.stuck_at, deletion.inventory) == ("deleted", None, [])
    assert DeletionReceipt.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broken", ["revisions", "specifications", "plan", "cluster is closed", "deletion"])
def test_nothing_that_is_missing_or_broken_keeps_a_deployment_alive(world: World, broken: str) -> None:
    bot = world.running()
    world.delete(bot)
    match broken:
        case "revisions":
            Revision.objects.all().delete()
        case "specifications":
            Revision.objects.update(spec={"nonsense": True}, failed_at=world.clock.now(), failure={"x": 1})
        case "plan":
            Plan.objects.all().delete()
        case "cluster is closed":
            Cluster.objects.update(enabled=False, configuration={"storage": "nonsense"})
        case "deletion":
            Deletion.objects.all().delete()
    world.settle()
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, world.cluster.objects(bot.public_id)) == ("deleted", [])
    assert DeletionReceipt.objects.get().resource == bot.public_id


@pytest.mark.django_db(transaction=True)
def test_a_cluster_that_does_not_answer_is_told_and_tried_on(world: World, settings: Settings) -> None:
    bot = world.running()
    world.delete(bot)
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("no route to host"))
    world.reconcile(bot)
    assert (bot.state, condition(bot, "Ready")["reason"]) == ("deleting", "Deleting")
    assert "The cluster does not answer." in condition(bot, "Ready")["message"]

    world.clock.advance(601)
    Deployment.objects.update(next_look_at=world.clock.now())
    rung: list[str] = []
    sweeping.sweep(ring=rung.append, now=world.clock.now, open_cluster=lambda _: world.cluster)
    assert rung == [bot.public_id]  # although nobody has changed anything
    world.reconcile(bot)
    assert condition(bot, "DeletionStuck")["reason"] == "Unreachable"
    assert not DeletionReceipt.objects.exists()

    world.cluster.before_call = lambda call: None
    world.restart()
    world.settle()
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, [it["type"] for it in bot.conditions]) == ("deleted", ["Ready", "Reconciled"])


@pytest.mark.django_db(transaction=True)
def test_what_was_seen_to_be_gone_stays_gone_while_the_cluster_does_not_answer(world: World) -> None:
    bot = world.create_deployment()
    world.delete(bot)
    world.reconcile(bot)
    before = (bot.state, bot.conditions, bot.explanation, bot.deleted_at)
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("no route"))

    world.reconcile(bot)  # somebody rings late

    assert bot.state == "deleted"
    assert (bot.state, bot.conditions, bot.explanation, bot.deleted_at) == before


@pytest.mark.django_db(transaction=True)
def test_a_cluster_that_nothing_can_open_is_told(world: World) -> None:
    bot = world.running()
    world.delete(bot)
    Cluster.objects.update(kind="nonsense")
    world.clock.advance(601)
    reconcile(bot.public_id, now=world.clock.now)
    bot.refresh_from_db()
    assert condition(bot, "DeletionStuck")["reason"] == "Rejected"
    assert "does not take this as it is. The field is kind." in condition(bot, "DeletionStuck")["message"]


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_we_may_not_make_says_so(world: World) -> None:
    bot = world.running()
    world.delete(bot)
    world.cluster.before_call = failing(call="delete", error=ClusterForbidden("services is forbidden"))
    world.clock.advance(601)
    world.reconcile(bot)
    assert condition(bot, "DeletionStuck")["reason"] == "Forbidden"
    assert Deletion.objects.get().stuck_at == world.clock.now()


@pytest.mark.django_db(transaction=True)
def test_what_comes_back_long_after_has_as_much_time_to_go(world: World) -> None:
    bot = world.running()
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    issued = DeletionReceipt.objects.get().gone_at
    world.clock.advance(86_400)
    world.resume(bot)
    world.reconcile(bot)  # somebody applies its objects again
    world.wish(bot, desired_state="deleted")
    world.settle()
    bot.refresh_from_db()
    assert [it["type"] for it in bot.conditions] == ["Ready"]
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, DeletionReceipt.objects.get().gone_at) == ("deleted", issued)


@pytest.mark.django_db(transaction=True)
def test_a_job_that_has_ended_goes_with_a_receipt(world: World) -> None:
    job = world.create_job()
    world.reconcile(job)
    world.cluster.start(job.public_id)
    world.clock.advance(30)
    world.cluster.finish(job.public_id, exit_code=65)
    world.settle()
    job.refresh_from_db()
    assert job.state == "failed"
    world.delete(job)
    FineTuningJob.objects.update(spec={})
    world.settle()
    world.cluster.let_go()
    world.settle()
    job.refresh_from_db()
    assert (job.state, job.deleted_at) == ("failed", world.clock.now())
    receipt = DeletionReceipt.objects.get()
    assert (receipt.resource, receipt.totals[0]["billed_seconds"]) == (job.public_id, "30")
    assert world.look().rung == []
