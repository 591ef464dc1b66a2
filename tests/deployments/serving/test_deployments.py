from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from deployments.reconcile.tasks import reconcile_one
from deployments.serving.models import Deployment, Event, Plan, Revision
from deployments.serving.plans import make_plan
from deployments.serving.workload import MOST_PAUSES
from marketplace.accounts.models import AuditEvent
from marketplace.billing.models import Quota
from marketplace.hardware.models import Cluster
from tests.market import Market
from tests.people import Person

DEPLOYMENTS = "/api/v1/deployments/"
ASK = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}


def create(person: Person, **changes: Any) -> dict[str, Any]:
    response = person.api.post(DEPLOYMENTS, {**ASK, **changes})
    assert response.status_code == 201, response.json()
    document: dict[str, Any] = response.json()
    return document


def wishes(document: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(document[name] for name in ("desired_state", "replicas", "target_revision", "generation"))


def test_a_deployment_is_a_wish_with_its_first_revision(alice: Person, market: Market) -> None:
    document = create(alice)
    assert wishes(document) == ("running", 1, 1, 1)
    assert document["state"] == "pending"
    assert document["endpoint"] == {"base_url": "http://127.0.0.1:8081/v1", "model": "bot"}
    revision = Revision.objects.get(deployment__public_id=document["id"])
    environment = revision.spec["environment"]
    assert environment["RUNTIME_MODEL_NAME"] == "bot"
    assert environment["RUNTIME_CONTEXT_LENGTH"] == "2048"
    assert not environment.keys() & {"RUNTIME_HOST", "RUNTIME_RESOURCE"}  # the manifest's to say
    assert revision.spec["mounts"] == [
        {"sub_path": "models/chatter", "mount_path": "/model", "read_only": True}
    ]


def test_every_wish_leaves_an_event_and_an_audit_entry(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    alice.api.patch(path, {"replicas": 2})
    alice.api.post(f"{path}pause/")
    alice.api.post(f"{path}resume/")
    alice.api.delete(path)
    reasons = ["Created", "Changed", "PauseRequested", "ResumeRequested", "DeleteRequested"]
    assert list(Event.objects.order_by("id").values_list("reason", flat=True)) == reasons
    assert [item["reason"] for item in alice.api.get(f"{path}events/").json()["items"]] == reasons[::-1]
    actions = AuditEvent.objects.filter(target=document["id"]).order_by("id").values_list("action", flat=True)
    assert list(actions) == [
        f"deployment.{verb}" for verb in ("create", "update", "pause", "resume", "delete")
    ]


def test_it_can_be_made_from_a_plan_and_keeps_the_quoted_price(alice: Person, market: Market) -> None:
    plan = alice.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    response = alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": plan["id"]})
    document = response.json()
    assert document["plan"] == plan["id"]
    assert document["price"] == plan["price"]


def test_a_plan_and_a_model_together_are_refused(alice: Person, market: Market) -> None:
    plan = alice.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    response = alice.api.post(DEPLOYMENTS, {**ASK, "plan": plan["id"]})
    assert {error["field"] for error in response.json()["errors"]} == {"model", "flavor"}


def test_a_refused_or_expired_or_foreign_plan_changes_nothing(
    alice: Person, charlie: Person, market: Market
) -> None:
    refused = alice.api.post(
        "/api/v1/plans/", {"model": "tests/chatter", "context_length": 8192, "max_concurrency": 64}
    ).json()
    expired = alice.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    Plan.objects.filter(public_id=expired["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    foreign = charlie.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    answers = [
        alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": plan["id"]})
        for plan in (refused, expired, foreign)
    ]
    assert [(answer.status_code, answer.json()["type"]) for answer in answers] == [
        (409, "/problems/plan-not-accepted"),
        (409, "/problems/plan-expired"),
        (400, "/problems/invalid-request"),
    ]
    failed = next(check for check in refused["checks"] if not check["passed"])
    expected = (
        f"This plan was not accepted. {failed['message']} {failed['remedy']} 1 more of its checks failed."
    )
    assert answers[0].json()["detail"] == expected
    assert not Deployment.objects.exists()


def test_a_plan_for_a_place_that_was_closed_since_is_refused(alice: Person, market: Market) -> None:
    plan = alice.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    Cluster.objects.update(enabled=False)
    response = alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": plan["id"]})
    assert (response.status_code, response.json()["type"]) == (409, "/problems/plan-outdated")
    assert [item["field"] for item in response.json()["differences"]] == ["place"]
    assert not response.json()["fresh_plan"]["accepted"]


def test_what_does_not_fit_is_refused_with_its_checks(alice: Person, market: Market) -> None:
    response = alice.api.post(DEPLOYMENTS, {**ASK, "context_length": 8192, "max_concurrency": 64})
    problem = response.json()
    assert response.status_code == 409
    assert [check["name"] for check in problem["checks"]] == ["memory"]
    assert not Deployment.objects.exists()


def test_a_name_is_taken_until_its_deployment_is_gone(alice: Person, charlie: Person, market: Market) -> None:
    first = create(alice)
    response = alice.api.post(DEPLOYMENTS, ASK)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (409, "name")
    create(charlie)  # another organization's names are its own
    Deployment.objects.filter(public_id=first["id"]).update(deleted_at=timezone.now(), state="deleted")
    create(alice)


@pytest.mark.parametrize("name", ["", "Bot", "bot-", "-bot", "b_t", "🤖", "bot-🤖", "x" * 41, "bot\x00", 7])
def test_a_name_that_is_no_name_is_refused(alice: Person, market: Market, name: Any) -> None:
    response = alice.api.post(DEPLOYMENTS, {**ASK, "name": name})
    assert response.status_code == 400
    assert not Deployment.objects.exists()


def test_a_change_of_replicas_keeps_the_revision(alice: Person, market: Market) -> None:
    document = create(alice)
    changed = alice.api.patch(f"{DEPLOYMENTS}{document['id']}/", {"replicas": 3}).json()
    assert wishes(changed) == ("running", 3, 1, 2)


def test_a_change_of_what_runs_makes_the_next_revision(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    changed = alice.api.patch(path, {"context_length": 1024}).json()
    assert wishes(changed) == ("running", 1, 2, 2)
    revisions = alice.api.get(f"{path}revisions/").json()["items"]
    assert [(item["number"], item["environment"]["RUNTIME_CONTEXT_LENGTH"]) for item in revisions] == [
        (2, "1024"),
        (1, "2048"),
    ]


def test_a_change_to_what_is_already_wished_writes_nothing(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    before = row_version(document["id"])
    alice.api.patch(path, {"replicas": 1})
    alice.api.post(f"{path}resume/")
    assert row_version(document["id"]) == before


def test_it_can_be_changed_after_its_plan_is_deleted(alice: Person, market: Market) -> None:
    document = create(alice, context_length=1024)
    Plan.objects.all().delete()
    path = f"{DEPLOYMENTS}{document['id']}/"
    assert wishes(alice.api.patch(path, {"replicas": 2}).json()) == ("running", 2, 1, 2)
    Plan.objects.all().delete()
    changed = alice.api.patch(path, {"max_concurrency": 2})
    assert wishes(changed.json()) == ("running", 2, 2, 3)
    environment = Revision.objects.latest("number").spec["environment"]
    assert (environment["RUNTIME_CONTEXT_LENGTH"], environment["RUNTIME_MAX_CONCURRENCY"]) == ("1024", "2")


def test_it_can_be_scaled_after_its_model_is_taken_off_the_list(alice: Person, market: Market) -> None:
    document = create(alice)
    market.model.listed = False
    market.model.save()
    changed = alice.api.patch(f"{DEPLOYMENTS}{document['id']}/", {"replicas": 2})
    assert (changed.status_code, wishes(changed.json())) == (200, ("running", 2, 1, 2))


def test_a_change_does_not_undo_one_made_while_it_was_planned(
    alice: Person, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"

    def plan_while_another_change_comes(**values: Any) -> Plan:
        monkeypatch.setattr("deployments.serving.api.make_plan", make_plan)
        assert alice.api.patch(path, {"context_length": 1024}).status_code == 200
        return make_plan(**values)

    monkeypatch.setattr("deployments.serving.api.make_plan", plan_while_another_change_comes)
    answer = alice.api.patch(path, {"replicas": 2})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/changed-meanwhile")
    assert "Read it again" in answer.json()["detail"]
    assert wishes(alice.api.get(path).json()) == ("running", 1, 2, 2)
    assert Revision.objects.latest("number").spec["environment"]["RUNTIME_CONTEXT_LENGTH"] == "1024"


def test_it_does_not_move_to_another_region(alice: Person, market: Market) -> None:
    document = create(alice)
    response = alice.api.patch(f"{DEPLOYMENTS}{document['id']}/", {"region": "nowhere"})
    assert response.json()["errors"][0]["field"] == "region"


def test_pausing_ends_billing_and_resuming_begins_it(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    paused = alice.api.post(f"{path}pause/").json()
    assert wishes(paused) == ("paused", 1, 1, 2)
    assert paused["stop_requested_at"] is not None
    resumed = alice.api.post(f"{path}resume/").json()
    assert wishes(resumed) == ("running", 1, 1, 3)
    assert resumed["stop_requested_at"] is None


def test_pauses_are_remembered_until_one_has_left_nothing(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    spans = []
    for _ in range(2):
        began = alice.api.post(f"{path}pause/").json()["stop_requested_at"]
        alice.api.post(f"{path}resume/")
        row = Deployment.objects.get(public_id=document["id"])
        start, end = row.pause_spans[-1]
        spans.append((start, end))
        assert datetime.fromisoformat(began) == start < end
        assert row.pause_spans == spans
    alice.api.post(f"{path}pause/")
    Deployment.objects.update(state="paused", observed_generation=F("generation"))  # as the reconciler does
    alice.api.post(f"{path}resume/")
    assert Deployment.objects.get(public_id=document["id"]).pauses == []


def test_of_too_many_pauses_the_closest_become_one(market: Market) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    row = Deployment(state="running")
    for number in range(MOST_PAUSES + 1):
        minute = noon + timedelta(minutes=number, seconds=-30 if number == 7 else 0)
        row.stop_requested_at = minute
        row.pauses = row.pauses_until(minute + timedelta(seconds=10))
    assert len(row.pauses) == MOST_PAUSES
    joined = (noon + timedelta(minutes=6), noon + timedelta(minutes=6, seconds=40))
    assert [span for span in row.pause_spans if span[1] - span[0] > timedelta(seconds=10)] == [joined]


def test_resuming_needs_the_quota_that_pausing_gave_back(alice: Person, market: Market) -> None:
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=2)
    first = create(alice)
    alice.api.post(f"{DEPLOYMENTS}{first['id']}/pause/")
    create(alice, name="other")
    response = alice.api.post(f"{DEPLOYMENTS}{first['id']}/resume/")
    assert (response.status_code, response.json()["type"]) == (409, "/problems/quota-exceeded")
    assert Deployment.objects.get(public_id=first["id"]).desired_state == "paused"


def test_an_accepted_plan_does_not_outlive_the_room_in_the_quota(alice: Person, market: Market) -> None:
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=2)
    plan = alice.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    made = alice.api.post(DEPLOYMENTS, {"name": "first", "plan": plan["id"]})
    refused = alice.api.post(DEPLOYMENTS, {"name": "second", "plan": plan["id"]})
    assert (made.status_code, refused.status_code) == (201, 409)
    assert refused.json()["type"] == "/problems/plan-outdated"
    assert [item["field"] for item in refused.json()["differences"]] == ["quota"]
    assert list(Deployment.objects.values_list("name", flat=True)) == ["first"]


def test_a_wish_stands_when_the_broker_takes_no_doorbell(
    alice: Person,
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("the broker is down")

    monkeypatch.setattr(reconcile_one, "delay", refuse)
    with django_capture_on_commit_callbacks(execute=True) as doorbells:
        create(alice)
    assert len(doorbells) == 1


def test_a_delete_is_accepted_once_and_nothing_can_be_changed_after(alice: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    deleted = alice.api.delete(path)
    assert (deleted.status_code, deleted.json()["desired_state"]) == (202, "deleted")
    again = alice.api.delete(path)
    assert again.json()["generation"] == deleted.json()["generation"]
    assert alice.api.patch(path, {"replicas": 2}).json()["type"] == "/problems/deleting"


def test_deleted_deployments_are_listed_only_when_asked_for(alice: Person, market: Market) -> None:
    document = create(alice)
    Deployment.objects.filter(public_id=document["id"]).update(deleted_at=timezone.now(), state="deleted")
    assert alice.api.get(DEPLOYMENTS).json()["items"] == []
    assert [item["id"] for item in alice.api.get(f"{DEPLOYMENTS}?state=deleted").json()["items"]] == [
        document["id"]
    ]


@pytest.mark.parametrize("after", ["-1", "x", "9" * 5000])
def test_logs_after_no_line_number_are_refused(alice: Person, market: Market, after: str) -> None:
    document = create(alice)
    response = alice.api.get(f"{DEPLOYMENTS}{document['id']}/logs/?after={after}")
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["after"]


@pytest.mark.parametrize("tail", ["", "0", "-1", "x", "1001", "9" * 5000])
def test_a_tail_of_no_or_too_many_lines_is_refused(alice: Person, market: Market, tail: str) -> None:
    document = create(alice)
    response = alice.api.get(f"{DEPLOYMENTS}{document['id']}/logs/?tail={tail}")
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["tail"]


def test_a_viewer_sees_and_does_not_change(alice: Person, bob: Person, market: Market) -> None:
    document = create(alice)
    path = f"{DEPLOYMENTS}{document['id']}/"
    assert bob.api.get(path).status_code == 200
    assert [
        bob.api.post(DEPLOYMENTS, ASK).status_code,
        bob.api.patch(path, {"replicas": 2}).status_code,
        bob.api.delete(path).status_code,
    ] == [403, 403, 403]


def test_the_same_idempotency_key_makes_one_deployment(alice: Person, market: Market) -> None:
    answers = [alice.api.post(DEPLOYMENTS, ASK, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert Deployment.objects.count() == 1


def row_version(public_id: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM serving_deployment WHERE public_id = %s", [public_id])
        (version,) = cursor.fetchone()
    return str(version)
