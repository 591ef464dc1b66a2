"""The staff's admin site: managing the catalog, imports with progress, hardware; every change is audited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from marketplace.accounts.models import AuditEvent, User
from marketplace.catalog.imports import advance, start_import
from marketplace.catalog.models import Model, ModelImport, ModelVersion
from marketplace.hardware.models import Accelerator, Cluster, Flavor, Region
from tests.hub.server import Hub
from tests.hub.tiny import tiny_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("stella@example.com", "correct horse battery"))
    return client


@pytest.fixture
def rung(monkeypatch) -> list[str]:
    """Ids of the imports that were rung for."""
    ids: list[str] = []
    monkeypatch.setattr("marketplace.catalog.tasks.advance_import.delay", ids.append)
    return ids


@pytest.fixture
def published(hub: Hub, storage: Path, entry: Model) -> ModelVersion:
    hub.add("tiny/llama", tiny_model())
    advance(start_import(model=entry).public_id)
    return ModelVersion.objects.get()


def trail() -> list[tuple[str, str, str, dict[str, object]]]:
    events = AuditEvent.objects.order_by("id")
    return [(event.actor_user, event.action, event.target, event.changes) for event in events]


def page(staff: Client, name: str, *args: object) -> str:
    answer = staff.get(reverse(f"admin:{name}", args=args))
    assert answer.status_code == 200
    return answer.content.decode()


def test_staff_start_an_import_from_the_list(
    staff: Client, entry: Model, rung: list[str], django_capture_on_commit_callbacks: Callable
):
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(
            reverse("admin:catalog_model_changelist"),
            {"action": "import_from_source", "_selected_action": [entry.pk]},
        )
    row = ModelImport.objects.get()
    assert (row.model, row.source, rung) == (entry, "hub:tiny/llama", [row.public_id])
    changes = {"source": [None, "hub:tiny/llama"], "revision": [None, ""]}
    assert trail() == [("stella@example.com", "import.start", row.public_id, changes)]


def test_staff_import_another_revision(
    staff: Client, entry: Model, rung: list[str], django_capture_on_commit_callbacks: Callable
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = staff.post(
            reverse("admin:catalog_modelimport_add"),
            {"model": entry.pk, "source": "", "requested_revision": "v1"},
        )
    assert answer.status_code == 302
    row = ModelImport.objects.get()
    assert (row.source, row.requested_revision, rung) == ("hub:tiny/llama", "v1", [row.public_id])


def test_a_source_that_is_none_is_explained(staff: Client, entry: Model):
    answer = staff.post(
        reverse("admin:catalog_modelimport_add"), {"model": entry.pk, "source": "folder:/etc"}
    )
    assert "is not open to imports" in answer.content.decode()
    assert not ModelImport.objects.exists()


def test_staff_see_the_progress(staff: Client, entry: Model):
    row = start_import(model=entry)
    ModelImport.objects.update(bytes_done=300_000, bytes_total=1_000_000, state="running")
    for text in (
        page(staff, "catalog_modelimport_changelist"),
        page(staff, "catalog_modelimport_change", row.pk),
        page(staff, "catalog_model_change", entry.pk),
    ):
        assert '<progress value="300000" max="1000000"></progress>' in text


def test_staff_cancel_and_retry(staff: Client, entry: Model, rung: list[str]):
    row = start_import(model=entry)
    for action, state in (("cancel", "failed"), ("retry", "queued")):
        staff.post(
            reverse("admin:catalog_modelimport_changelist"), {"action": action, "_selected_action": [row.pk]}
        )
        row.refresh_from_db()
        assert row.state == state
    assert [event[1] for event in trail()] == ["import.cancel", "import.retry"]


def test_a_published_version_is_shown_and_not_changed(staff: Client, published: ModelVersion):
    text = page(staff, "catalog_modelversion_change", published.pk)
    assert 'name="revision"' not in text
    assert 'name="recipes-0-image"' in text
    assert staff.get(reverse("admin:catalog_modelversion_delete", args=[published.pk])).status_code == 403
    assert staff.get(reverse("admin:catalog_model_delete", args=[published.model.pk])).status_code == 403


def test_staff_unlist_a_model_and_the_trail_says_so(staff: Client, entry: Model):
    staff.post(
        reverse("admin:catalog_model_changelist"), {"action": "unlist_them", "_selected_action": [entry.pk]}
    )
    entry.refresh_from_db()
    assert not entry.listed
    assert trail() == [("stella@example.com", "model.change", entry.public_id, {"listed": [True, False]})]


@pytest.fixture
def flavor(db: None) -> Flavor:
    chip = Accelerator.objects.create(slug="chip", name="Chip", vendor="Any", family="cpu", memory_bytes=0)
    return Flavor.objects.create(
        slug="small",
        name="Small",
        accelerator=chip,
        accelerator_count=0,
        vcpus=2,
        memory_bytes=2**32,
        machine_class="virtual",
    )


def test_staff_open_a_node_pool_and_the_trail_says_so(staff: Client, flavor: Flavor):
    cluster = Cluster.objects.create(
        slug="north", region=Region.objects.create(slug="north", name="North"), kind="local"
    )
    answer = staff.post(
        reverse("admin:hardware_cluster_change", args=[cluster.pk]),
        {
            "slug": "north",
            "region": cluster.region.pk,
            "kind": "local",
            "configuration": "{}",
            "node_pools-TOTAL_FORMS": "1",
            "node_pools-INITIAL_FORMS": "0",
            "node_pools-0-flavor": flavor.pk,
            "node_pools-0-node_selector": "{}",
            "node_pools-0-taints": "[]",
            "node_pools-0-capacity": "3",
            "node_pools-0-provisioning_p50_seconds": "1",
            "node_pools-0-provisioning_p95_seconds": "2",
        },
    )
    assert answer.status_code == 302, answer.content.decode()
    pool = cluster.node_pools.get()
    assert (pool.flavor, pool.capacity) == (flavor, 3)
    (_, closed, _, change), (_, opened, _, values) = trail()
    assert (closed, change) == ("cluster.change", {"enabled": [True, False]})
    assert (opened, values["capacity"]) == ("nodepool.create", [None, 3])


@pytest.mark.parametrize(
    "name",
    [
        "catalog_model",
        "catalog_modelversion",
        "catalog_modelimport",
        "catalog_framework",
        "catalog_license",
        "hardware_accelerator",
        "hardware_flavor",
        "hardware_region",
        "hardware_cluster",
    ],
)
def test_every_list_and_form_opens(staff: Client, published: ModelVersion, flavor: Flavor, name: str):
    assert "0 results" not in page(staff, f"{name}_changelist") or name.startswith("hardware")
    staff.get(reverse(f"admin:{name}_changelist"), {"q": "tiny"})
    page(staff, f"{name}_add")


def test_customers_have_no_admin(alice, entry: Model):
    answer = alice.browser.get(reverse("admin:catalog_model_changelist"))
    assert answer.status_code == 302
    assert "login" in answer.headers["Location"]
