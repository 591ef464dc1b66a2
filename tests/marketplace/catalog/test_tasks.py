from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from marketplace.catalog.imports import advance, start_import
from marketplace.catalog.models import Model, ModelImport
from marketplace.catalog.tasks import advance_import, resume_imports
from marketplace.config.celery import app
from tests.hub.server import Hub
from tests.hub.tiny import tiny_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def rung(monkeypatch) -> list[str]:
    """Ids of the imports that were rung for."""
    ids: list[str] = []
    monkeypatch.setattr("marketplace.catalog.tasks.advance_import.delay", ids.append)
    return ids


def test_an_import_rings_for_itself_until_it_is_done(
    hub: Hub, storage: Path, entry: Model, rung: list[str], monkeypatch
):
    hub.add("tiny/llama", tiny_model())
    row = start_import(model=entry)
    monkeypatch.setattr(
        "marketplace.catalog.tasks.advance", lambda public_id: advance(public_id, pass_seconds=0)
    )
    assert advance_import(row.public_id) == "again"
    assert rung == [row.public_id]
    monkeypatch.undo()
    assert advance_import(row.public_id) == "ended"


def test_the_sweep_rings_for_what_is_due_and_for_nothing_else(entry: Model, rung: list[str]):
    later, now = timezone.now() + timedelta(minutes=1), timezone.now()
    lost = start_import(model=entry)
    for revision, values in {
        "paused": {"next_attempt_at": later},
        "worked-on": {"lease_until": later},
        "done": {"state": "succeeded"},
        "failed": {"state": "failed"},
        "orphaned": {"state": "running", "lease_until": now - timedelta(seconds=1)},
    }.items():
        row = start_import(model=entry, requested_revision=revision)
        ModelImport.objects.filter(pk=row.pk).update(**values)
    orphaned = ModelImport.objects.get(requested_revision="orphaned")
    assert resume_imports() == 2
    assert sorted(rung) == sorted([lost.public_id, orphaned.public_id])


def test_the_sweep_is_scheduled():
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert resume_imports.name in scheduled


def test_a_pass_over_a_huge_file_outlives_the_time_of_other_tasks(settings: Settings):
    assert advance_import.time_limit > settings.CELERY_TASK_TIME_LIMIT
