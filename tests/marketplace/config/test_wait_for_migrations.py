"""Pods wait for the tables that they need."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder


def wait(seconds: float) -> str:
    out = StringIO()
    call_command("wait_for_migrations", seconds=seconds, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_it_returns_at_once_when_nothing_is_missing() -> None:
    assert wait(0) == "the database is up to date\n"


@pytest.mark.django_db
def test_it_names_the_first_migration_that_is_missing() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("sessions", "0001_initial")
    with pytest.raises(
        CommandError, match=r"^not within 0 s: 1 migrations are missing, the first is sessions.0001_initial$"
    ):
        wait(0)


@pytest.mark.django_db
def test_a_database_that_is_ahead_is_fine() -> None:
    MigrationRecorder(connection).record_applied("sessions", "0099_of_a_newer_release")
    assert wait(0) == "the database is up to date\n"


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    with pytest.raises(CommandError, match="the database does not answer"):
        wait(0)
