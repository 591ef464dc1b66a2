from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from marketplace.accounts.models import Organization
from marketplace.billing.ledger import record_usage, recorded_stretches
from marketplace.billing.metering import Overlap, Stretch
from marketplace.billing.models import Price, UsageInterval

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def serving(start: float, end: float) -> Stretch:
    return Stretch("serving", "customer", at(start), at(end))


@pytest.fixture
def pod(acme: Organization, price: Price) -> dict[str, Any]:
    return {
        "organization": acme,
        "resource": "dep_1",
        "resource_name": "chat",
        "replica_uid": "uid-1",
        "flavor": price.flavor,
        "region": price.region,
        "price": price,
    }


def test_recording_twice_adds_once(pod: dict[str, Any]) -> None:
    first = record_usage(**pod, stretches=[serving(0, 60)])
    again = record_usage(**pod, stretches=[serving(0, 60)])
    grown = record_usage(**pod, stretches=[serving(0, 90)])
    assert (len(first), again, [it.during.lower for it in grown]) == (1, [], [at(60)])
    assert recorded_stretches(["uid-1", "uid-2"]) == {"uid-1": [serving(0, 60), serving(60, 90)]}


def test_a_contradiction_writes_nothing(pod: dict[str, Any]) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    with pytest.raises(Overlap):
        record_usage(**pod, stretches=[serving(60, 70), Stretch("serving", "provider", at(50), at(60))])
    assert recorded_stretches(["uid-1"]) == {"uid-1": [serving(0, 60)]}


def test_postgresql_refuses_a_second_twice_for_one_replica_only(pod: dict[str, Any]) -> None:
    values = {**pod, "phase": "serving", "cause": "customer", "during": DateTimeTZRange(at(0), at(60))}
    UsageInterval.objects.create(**values)
    with pytest.raises(IntegrityError, match="no_second_of_a_replica_twice"), transaction.atomic():
        UsageInterval.objects.create(**{**values, "during": DateTimeTZRange(at(59), at(61))})
    UsageInterval.objects.create(**{**values, "during": DateTimeTZRange(at(60), at(61))})
    UsageInterval.objects.create(**{**values, "replica_uid": "uid-10"})
    assert UsageInterval.objects.count() == 3


@pytest.mark.parametrize("during", [(None, at(1)), (at(1), None), (at(1), at(1))])
def test_postgresql_refuses_open_and_empty_intervals(pod: dict[str, Any], during: tuple[Any, Any]) -> None:
    values = {**pod, "phase": "serving", "cause": "customer", "during": DateTimeTZRange(*during)}
    with pytest.raises(IntegrityError, match="usage_is_closed_and_not_empty"), transaction.atomic():
        UsageInterval.objects.create(**values)


def test_postgresql_refuses_to_change_or_remove_usage(pod: dict[str, Any]) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        UsageInterval.objects.update(cause="provider")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        UsageInterval.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_writers_of_one_replica_at_once_record_every_second_once(pod: dict[str, Any]) -> None:
    errors: list[Exception] = []
    begin = threading.Barrier(6)

    def write(until: int) -> None:
        begin.wait(timeout=10)
        try:
            record_usage(**pod, stretches=[serving(0, until)])
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(until,)) for until in (60, 60, 70, 80, 80, 90)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    stretches = recorded_stretches(["uid-1"])["uid-1"]
    assert sum((it.duration for it in stretches), timedelta()) == timedelta(seconds=90)
