"""What customers and staff see of a deletion."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from deployments.reconcile.decision import DeletionRecord
from deployments.reconcile.receipts import record_deletion
from deployments.serving.models import Deletion, Deployment
from tests.market import Market
from tests.people import PASSWORD, Person

DEPLOYMENTS = "/api/v1/deployments/"
HELD = {
    "kind": "object",
    "name": "Service org/dep",
    "going_since": "2026-03-01T12:00:00+00:00",
    "finalizers": ["example.com/guard"],
    "node": "",
}


@pytest.fixture
def path(alice: Person, market: Market) -> str:
    """The address of alice's deployment `bot`, which she has deleted."""
    wish = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    path = f"{DEPLOYMENTS}{alice.api.post(DEPLOYMENTS, wish).json()['id']}/"
    assert alice.api.delete(path).status_code == 202
    return path


def observe(**facts: Any) -> None:
    """What the reconciler would find."""
    record_deletion(Deployment.objects.get(), DeletionRecord(columns=facts))


def test_a_deletion_tells_its_deadline_and_who_holds_it(alice: Person, path: str) -> None:
    observe(inventory=[HELD], inventory_at=timezone.now(), stuck_at=timezone.now())
    document = alice.api.get(f"{path}deletion/").json()
    deletion = Deletion.objects.get()
    assert deletion.deadline - deletion.requested_at == timedelta(minutes=10)
    assert (document["id"], document["requested_by"]) == (deletion.public_id, deletion.requested_by)
    assert document["inventory"] == [HELD]
    assert document["holders"] == [
        {
            "finalizer": "example.com/guard",
            "owner": "example.com",
            "object": "Service org/dep",
            "since": "2026-03-01T12:00:00+00:00",
        }
    ]
    assert document["receipt"] is None


def test_a_receipt_is_read_after_the_deployment_is_gone(alice: Person, path: str) -> None:
    observe(inventory=[], gone_at=timezone.now())
    Deployment.objects.update(state="deleted", deleted_at=timezone.now())
    receipt = alice.api.get(f"{path}deletion/").json()["receipt"]
    assert (receipt["resource"], receipt["organization"], receipt["inventory"]) == (
        Deployment.objects.get().public_id,
        alice.organization.public_id,
        [],
    )
    (listed,) = alice.api.get("/api/v1/deletion-receipts/").json()["items"]
    assert listed == receipt
    assert alice.api.get(f"/api/v1/deletion-receipts/{receipt['id']}/").json() == receipt


def test_a_second_request_changes_nothing(alice: Person, path: str) -> None:
    first = Deletion.objects.get()
    alice.api.delete(path)
    assert Deletion.objects.get().requested_at == first.requested_at


def test_what_nobody_has_deleted_has_no_deletion(alice: Person, market: Market) -> None:
    wish = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    made = alice.api.post(DEPLOYMENTS, wish).json()
    answer = alice.api.get(f"{DEPLOYMENTS}{made['id']}/deletion/")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-deleted")


def test_staff_find_what_is_stuck(alice: Person, path: str) -> None:
    get_user_model().objects.create_superuser(email="staff@example.com", password=PASSWORD)
    staff = Client()
    assert staff.login(username="staff@example.com", password=PASSWORD)
    address = "/admin/serving/deletion/"
    deletion = Deletion.objects.get().public_id
    assert deletion not in staff.get(f"{address}?stuck=yes").content.decode()
    observe(stuck_at=timezone.now())
    assert deletion in staff.get(f"{address}?stuck=yes").content.decode()
    assert deletion not in staff.get(f"{address}?stuck=gone").content.decode()
