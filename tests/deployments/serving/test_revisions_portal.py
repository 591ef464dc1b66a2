"""Revisions, canaries and deletions in the portal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from deployments.reconcile.decision import DeletionRecord
from deployments.reconcile.receipts import record_deletion
from deployments.serving.models import Deployment, Revision
from tests.market import Market
from tests.people import Person

CHANGE = {
    "replicas": "1",
    "context_length": "1024",
    "max_concurrency": "4",
    "strategy": "rolling",
    "weight": "",
}


@pytest.fixture
def path(alice: Person, market: Market) -> str:
    """The page of alice's deployment `bot`, whose first revision serves."""
    wish = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    made = alice.api.post("/api/v1/deployments/", wish).json()
    Deployment.objects.update(serving_revision=1, fallback_revision=1, ready_replicas=1, state="running")
    return f"/deployments/{made['id']}/"


def post(alice: Person, path: str, action: str, **values: Any) -> Any:
    return alice.browser.post(path, {"action": action, **values})


def test_a_change_is_shown_before_it_is_made(alice: Person, path: str) -> None:
    page = post(alice, path, "preview-change", **CHANGE).content.decode()
    assert "<td>context_length</td><td>2048</td><td>1024</td>" in page
    assert "both need room at once" in page
    assert Revision.objects.count() == 1
    assert post(alice, path, "change", **CHANGE).url == path
    assert Deployment.objects.get().target_revision == 2


def test_a_change_to_nothing_says_so_at_its_form(alice: Person, path: str) -> None:
    page = post(alice, path, "preview-change", **CHANGE | {"context_length": "2048"}).content.decode()
    assert "Say what to change" in page


def test_a_change_that_makes_no_sense_is_an_error_of_its_field(alice: Person, path: str) -> None:
    response = post(alice, path, "preview-change", **CHANGE | {"context_length": "9000"})
    assert response.context["change"].errors == {"context_length": ["Chatter supports at most 8192 tokens."]}


def test_a_canary_is_started_and_promoted_by_mouse(alice: Person, path: str) -> None:
    post(alice, path, "change", **CHANGE | {"strategy": "canary", "weight": "25"})
    assert Deployment.objects.get().canary_weight == 25
    page = alice.browser.get(path).content.decode()
    assert "Revision 2 is meant for 25 % of the requests" in page
    assert "Promote revision 2" in page
    post(alice, path, "promote")
    assert Deployment.objects.get().canary_weight is None
    post(alice, path, "abort")
    assert Deployment.objects.get().target_revision == 1


def test_a_rollback_is_shown_before_it_is_made(alice: Person, path: str) -> None:
    post(alice, path, "change", **CHANGE)
    Revision.objects.filter(number=1).update(served_at=timezone.now())
    Deployment.objects.update(serving_revision=2, fallback_revision=2)
    page = alice.browser.get(path).content.decode()
    assert "context_length: 2048 → 1024" in page
    preview = post(alice, path, "preview-rollback", revision="1").content.decode()
    assert "Back to revision 1" in preview
    assert Revision.objects.count() == 2
    post(alice, path, "rollback", revision="1")
    assert Deployment.objects.get().target_revision == 3


@pytest.mark.parametrize("revision", ["7", "x", "", "9" * 30])
def test_a_rollback_to_nothing_is_told(alice: Person, path: str, revision: str) -> None:
    page = alice.browser.post(path, {"action": "rollback", "revision": revision}, follow=True)
    assert "There is no revision" in page.content.decode()


def test_a_viewer_changes_nothing(alice: Person, bob: Person, path: str) -> None:
    for action in ("change", "rollback", "promote", "abort"):
        assert post(bob, path, action, **CHANGE, revision="1").status_code == 403


def test_a_deletion_shows_what_holds_it_and_then_its_receipt(
    alice: Person, charlie: Person, path: str
) -> None:
    post(alice, path, "delete")
    row = Deployment.objects.get()
    held = {
        "kind": "object",
        "name": "Service org/dep",
        "going_since": "2026-03-01T12:00:00+00:00",
        "finalizers": ["example.com/guard"],
        "node": "",
    }
    record_deletion(row, DeletionRecord(columns={"inventory": [held], "stuck_at": timezone.now()}))
    page = alice.browser.get(path).content.decode()
    assert "example.com/guard" in page
    assert "the provider was told" in page
    assert alice.browser.get(f"{path}receipt/").status_code == 404

    record_deletion(row, DeletionRecord(columns={"inventory": [], "gone_at": timezone.now()}))
    assert "showed nothing of it" in alice.browser.get(path).content.decode()
    answer = alice.browser.get(f"{path}receipt/")
    assert json.loads(answer.content)["resource"] == row.public_id
    assert answer["Content-Disposition"].startswith('attachment; filename="rct_')
    assert charlie.browser.get(f"{path}receipt/").status_code == 404
