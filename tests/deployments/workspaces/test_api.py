"""Workspaces as customers ask for them by REST."""

from __future__ import annotations

from hashlib import sha256

import pytest
from pytest_django import Settings

from deployments.serving.models import Event
from deployments.workspaces.checks import check_gateway_is_apart
from deployments.workspaces.models import Workspace
from marketplace.accounts.models import AuditEvent, Scope
from marketplace.billing.models import Quota
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Accelerator, Flavor
from tests.frameworks import add_framework
from tests.market import GIB, Market
from tests.people import Person

pytestmark = pytest.mark.django_db
URL = "/api/v1/workspaces/"
WISH = {"name": "lab", "framework": "test-framework", "flavor": "test-small", "volume_gib": 5}


@pytest.fixture(autouse=True)
def offered(market: Market) -> None:
    add_framework()


def create(person: Person, **changes: object) -> dict[str, object]:
    answer = person.api.post(URL, {**WISH, **changes})
    assert answer.status_code == 201, answer.json()
    document: dict[str, object] = answer.json()
    return document


def refusal(person: Person, **changes: object) -> tuple[int, str, str]:
    """Status, field and message of the answer to a wish that is refused."""
    answer = person.api.post(URL, {**WISH, **changes})
    problem = answer.json()
    (error,) = problem.get("errors") or [{"field": "", "message": problem["detail"]}]
    return answer.status_code, error["field"], error["message"]


def test_it_answers_with_the_wish_its_price_and_where_it_will_be(alice: Person, settings: Settings):
    settings.GATEWAY_URL = "https://models.example"

    document = create(alice)

    assert {name: document[name] for name in ("state", "framework", "flavor", "region", "volume_gib")} == {
        "state": "pending",
        "framework": "test-framework",
        "flavor": "test-small",
        "region": "test",
        "volume_gib": 5,
    }
    assert document["url"] == f"https://models.example/workspaces/{document['id']}/"
    assert document["price"] == {
        "currency": "EUR",
        "per_second": "0.00001",
        "per_minute": "0.0006",
        "per_hour": "0.036",
        "per_day": "0.864",
        "per_month": "26.28",
    }
    assert [item["id"] for item in alice.api.get(URL).json()["items"]] == [document["id"]]


def test_it_shows_the_token_to_whoever_may_deploy_and_keeps_it_nowhere(alice: Person):
    document = create(alice)

    shown = alice.api.post(f"{URL}{document['id']}/token/").json()

    row = Workspace.objects.get()
    assert row.token_hash == sha256(shown["token"].encode()).hexdigest()
    assert shown["open_url"] == f"{document['url']}?token={shown['token']}"
    assert shown["token"] not in str(Workspace.objects.values().get())
    assert alice.api.post(f"{URL}{document['id']}/token/").json() == shown
    reader = alice.api_with(scopes=[Scope.READ])
    assert reader.post(f"{URL}{document['id']}/token/").status_code == 403
    assert AuditEvent.objects.filter(action="workspace.token", target=document["id"]).count() == 2


def test_an_answer_that_is_repeated_does_not_tell_the_token_again(alice: Person):
    document = create(alice)
    path = f"{URL}{document['id']}/token/"

    first = alice.api.post(path, headers={"idempotency-key": "once"})
    second = alice.api.post(path, headers={"idempotency-key": "once"})

    assert len(first.json()["token"]) == 64
    assert first.json()["token"] not in second.content.decode()


def test_another_token_replaces_the_first(alice: Person):
    document = create(alice)
    before = alice.api.post(f"{URL}{document['id']}/token/").json()["token"]

    after = alice.api.post(f"{URL}{document['id']}/token/rotate/").json()["token"]

    row = Workspace.objects.get()
    assert after != before
    assert (row.token_number, row.generation) == (2, 2)
    assert row.token_hash == sha256(after.encode()).hexdigest()


def test_a_token_that_the_secret_key_does_not_give_any_more_is_told_as_lost(
    alice: Person, settings: Settings
):
    document = create(alice)
    settings.SECRET_KEY = "another-secret-key-of-the-installation"

    answer = alice.api.post(f"{URL}{document['id']}/token/")

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "token-lost")
    rotated = alice.api.post(f"{URL}{document['id']}/token/rotate/")
    assert rotated.status_code == 200


def test_it_pauses_resumes_and_deletes(alice: Person):
    path = f"{URL}{create(alice)['id']}/"

    paused = alice.api.post(f"{path}pause/").json()
    resumed = alice.api.post(f"{path}resume/").json()
    deleted = alice.api.delete(path)

    assert (paused["desired_state"], paused["stop_requested_at"] is None) == ("paused", False)
    assert (resumed["desired_state"], resumed["stop_requested_at"]) == ("running", None)
    assert (deleted.status_code, deleted.json()["desired_state"]) == (202, "deleted")
    assert alice.api.post(f"{path}resume/").json()["detail"] == "This workspace is being deleted."
    assert alice.api.post(f"{path}token/").status_code == 409
    assert alice.api.get(f"{path}deletion/").json()["requested_by"]
    reasons = Event.objects.order_by("id").values_list("reason", flat=True)
    assert list(reasons) == ["Created", "PauseRequested", "ResumeRequested", "DeleteRequested"]


def test_two_workspaces_cannot_have_one_name(alice: Person):
    create(alice)

    status, field, message = refusal(alice)

    assert (status, field) == (409, "name")
    assert message == "A workspace called 'lab' already exists. Delete it first, or choose another name."


@pytest.mark.parametrize(
    ("changes", "status", "field", "message"),
    [
        ({"framework": "caffe"}, 400, "framework", "'caffe' does not exist. There are: test-framework."),
        ({"flavor": "huge"}, 400, "flavor", "'huge' does not exist. There are: test-large, test-small."),
        ({"region": "mars"}, 400, "region", "'mars' does not exist. There are: test."),
        ({"volume_gib": 0}, 400, "volume_gib", "Ensure this value is greater than or equal to 1."),
        ({"volume_gib": 9999}, 400, "volume_gib", "Ensure this value is less than or equal to 2048."),
        (
            {"flavor": "test-large"},
            409,
            "flavor",
            "test-large has no price today. Take another flavor, or ask the provider.",
        ),
    ],
)
def test_it_says_what_is_wrong_with_a_wish(
    alice: Person, changes: dict[str, object], status: int, field: str, message: str
):
    assert refusal(alice, **changes) == (status, field, message)
    assert not Workspace.objects.exists()


def test_a_name_with_an_emoji_is_refused(alice: Person):
    assert refusal(alice, name="lab🧪")[:2] == (400, "name")


def test_a_framework_for_another_accelerator_is_refused_with_flavors_that_fit(alice: Person, market: Market):
    add_framework("test-poplar", family="ipu")
    chip = Accelerator.objects.create(slug="gpu", name="GPU", vendor="Any", family="cuda", memory_bytes=GIB)
    Flavor.objects.create(
        slug="gpu-small",
        name="gpu-small",
        accelerator=chip,
        accelerator_count=1,
        vcpus=1,
        memory_bytes=GIB,
        machine_class="virtual",
    )

    assert refusal(alice, framework="test-poplar", flavor="gpu-small") == (
        409,
        "flavor",
        "Test poplar needs Graphcore IPU; gpu-small has NVIDIA GPU. Flavors that fit: none are on offer.",
    )
    assert refusal(alice, flavor="gpu-small") == (
        409,
        "flavor",
        "Test framework needs CPU; gpu-small has NVIDIA GPU. Flavors that fit: test-large, test-small.",
    )


def test_a_flavor_whose_pods_are_privileged_is_refused_because_a_notebook_runs_any_code(
    alice: Person, market: Market
):
    chip = market.flavor.accelerator
    chip.attachment = Attachment.IPUJOB
    chip.save()

    assert refusal(alice) == (
        409,
        "flavor",
        "test-small is attached by an IPUJob, whose pods are privileged on their node, so no workspace "
        "runs on it. Take a flavor attached by a device plug-in.",
    )
    assert not Workspace.objects.exists()


def test_a_framework_without_a_notebook_image_is_refused_with_those_that_have_one(alice: Person):
    add_framework("test-bare", image="")

    assert refusal(alice, framework="test-bare") == (
        409,
        "framework",
        "There is no workspace for test-bare. There are: test-framework.",
    )


def test_a_full_quota_is_told_in_numbers_before_anything_is_made(alice: Person):
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=3)
    create(alice)

    answer = alice.api.post(URL, {**WISH, "name": "another"})

    problem = answer.json()
    assert answer.status_code == 409
    assert {name: problem[name] for name in ("need", "held", "limit")} == {"need": 2, "held": 2, "limit": 3}
    assert Workspace.objects.count() == 1


def test_a_paused_workspace_gives_its_share_of_the_quota_back(alice: Person):
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=2)
    first = create(alice)
    alice.api.post(f"{URL}{first['id']}/pause/")
    create(alice, name="another")

    assert alice.api.post(f"{URL}{first['id']}/resume/").status_code == 409


def test_staff_see_workspaces_without_what_opens_them(alice: Person, admin_client: object):
    document = create(alice)
    row = Workspace.objects.get()

    page = admin_client.get(f"/admin/workspaces/workspace/{row.pk}/change/").content.decode()  # type: ignore[attr-defined]

    assert document["id"] in page
    assert row.token_hash not in page


def test_no_workspace_is_made_where_it_would_share_the_portals_origin(alice: Person, settings: Settings):
    settings.WEB_URL = "https://market.example"
    settings.GATEWAY_URL = "https://market.example:443"

    status, _, message = refusal(alice)

    assert (status, message) == (
        409,
        "This installation offers no workspaces: its gateway has no address of its own. Ask the provider.",
    )
    assert [warning.id for warning in check_gateway_is_apart(None)] == ["workspaces.W001"]


def test_another_port_is_another_origin(settings: Settings):
    settings.WEB_URL, settings.GATEWAY_URL = "http://127.0.0.1:8080", "http://127.0.0.1:8081"

    assert check_gateway_is_apart(None) == []
