"""Usage as customers read it, and the check that the ledger and the bills agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from marketplace.accounts.models import AuditEvent, Organization, Role, Scope
from marketplace.billing import live
from marketplace.billing.ledger import record_usage
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price, UsageInterval
from marketplace.billing.prices import set_price
from tests.people import Person, add_person

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def starting(start: float, end: float) -> Stretch:
    return Stretch("starting", "provider", at(start), at(end))


def serving(start: float, end: float) -> Stretch:
    return Stretch("serving", "customer", at(start), at(end))


@pytest.fixture
def pod(alice: Person, price: Price) -> dict[str, Any]:
    """alice's only replica; one cent a second."""
    return {
        "organization": alice.organization,
        "resource": "dep_1",
        "resource_name": "chat",
        "replica_uid": "uid-1",
        "flavor": price.flavor,
        "region": price.region,
        "price": price,
    }


@pytest.fixture
def running() -> Iterator[Callable[..., None]]:
    """Says what is still open, as deployments would."""
    known: list[tuple[Organization, live.LiveUsage]] = []

    def source(organization: Organization, now: datetime) -> list[live.LiveUsage]:
        return [usage for owner, usage in known if owner == organization]

    def say(pod: dict[str, Any], *stretches: Stretch) -> None:
        values = {**pod, "stretches": stretches}
        known.append((values.pop("organization"), live.LiveUsage(**values)))

    live.register(source)
    yield say
    live.unregister(source)


def test_the_statement_has_lines_and_totals(alice: Person, pod: dict[str, Any], price: Price) -> None:
    record_usage(**pod, stretches=[starting(-30, 0), serving(0, 90.5)])
    statement = alice.api.get("/api/v1/usage/").json()
    line = {
        "resource": "dep_1",
        "resource_name": "chat",
        "flavor": price.flavor.slug,
        "region": price.region.slug,
        "price": {"id": price.public_id, "per_second": "0.010000000", "currency": "EUR"},
        "currency": "EUR",
        "open": False,
        "open_seconds": "0.000000",
    }
    assert statement["lines"] == [
        line
        | {
            "phase": "serving",
            "cause": "customer",
            "billed": True,
            "seconds": "90.500000",
            "minutes": "1.51",
            "amount": "0.90",  # 0.905 rounds half to even
            "exact_amount": "0.905000000000000",
        },
        line
        | {
            "phase": "starting",
            "cause": "provider",
            "billed": False,
            "seconds": "30.000000",
            "minutes": "0.50",
            "amount": "0.00",
            "exact_amount": "0.000000",
        },
    ]
    assert statement["totals"] == [
        {
            "currency": "EUR",
            "amount": "0.90",
            "billed_seconds": "90.500000",
            "unbilled_seconds": "30.000000",
            "open": False,
        }
    ]
    assert (statement["period"], statement["open_stretches"]) == ({"since": None, "until": None}, [])


def test_what_still_runs_is_cost_so_far_and_counted_once(
    alice: Person, pod: dict[str, Any], running: Callable[..., None], price: Price
) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    running(pod, starting(-30, 0), serving(0, 100))
    statement = alice.api.get("/api/v1/usage/").json()
    (line,) = statement["lines"]
    assert (line["seconds"], line["open"], line["open_seconds"], line["amount"]) == (
        "100.000000",
        True,
        "40.000000",
        "1.00",
    )
    assert statement["open_stretches"] == [
        {
            "resource": "dep_1",
            "resource_name": "chat",
            "replica": "uid-1",
            "start": "2026-03-01T12:01:00Z",
            "end": "2026-03-01T12:01:40Z",
            "seconds": "40.000000",
            "phase": "serving",
            "cause": "customer",
            "flavor": price.flavor.slug,
            "region": price.region.slug,
            "price": price.public_id,
            "per_second": "0.010000000",
            "currency": "EUR",
            "exact_amount": "0.400000000000000",
        }
    ]
    assert statement["totals"][0]["open"] is True


def test_an_open_stretch_costs_the_same_once_it_is_recorded(
    alice: Person, pod: dict[str, Any], running: Callable[..., None]
) -> None:
    running(pod, serving(0, 33.333333))
    before = alice.api.get("/api/v1/usage/").json()["totals"][0]["amount"]
    for until in (10.1, 20.2, 33.333333):
        record_usage(**pod, stretches=[serving(0, until)])
    after = alice.api.get("/api/v1/usage/").json()
    assert (after["totals"][0]["amount"], after["totals"][0]["open"]) == (before, False)


@pytest.mark.parametrize(
    ("case", "query", "seconds"),
    [
        ("all", {}, ["100.000000"]),
        ("resource", {"resource": "dep_2"}, []),
        ("phase", {"phase": "training"}, []),
        ("since", {"since": "2026-03-01T12:00:30Z"}, ["70.000000"]),
        ("until", {"until": "2026-03-01T12:00:30Z"}, ["30.000000"]),
        ("both", {"since": "2026-03-01T12:00:30Z", "until": "2026-03-01T12:01:20Z"}, ["50.000000"]),
        ("a day", {"since": "2026-03-01", "until": "2026-03-02"}, ["100.000000"]),
        ("another day", {"since": "2026-03-02"}, []),
    ],
)
def test_usage_is_filtered_and_cut_to_the_period(
    alice: Person,
    pod: dict[str, Any],
    running: Callable[..., None],
    case: str,
    query: dict[str, str],
    seconds: list[str],
) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    running(pod, serving(0, 100))
    lines = alice.api.get("/api/v1/usage/", query).json()["lines"]
    assert [line["seconds"] for line in lines] == seconds, case


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"sinc": "2026-03-01"}, "sinc", "did you mean 'since'?"),
        ({"phase": "waiting"}, "phase", "not a valid choice"),
        ({"since": "yesterday"}, "since", "wrong format"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "until", "must end after it begins"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_name(
    alice: Person, query: dict[str, str], field: str, says: str
) -> None:
    answer = alice.api.get("/api/v1/usage/", query)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert says in answer.json()["errors"][0]["message"]


def test_intervals_explain_the_bill(alice: Person, pod: dict[str, Any], price: Price) -> None:
    record_usage(**pod, stretches=[starting(-30, 0), serving(0, 60)])
    items = alice.api.get("/api/v1/usage/intervals/", {"phase": "serving"}).json()["items"]
    row = UsageInterval.objects.get(phase="serving")
    assert items == [
        {
            "id": row.public_id,
            "resource": "dep_1",
            "resource_name": "chat",
            "replica": "uid-1",
            "start": "2026-03-01T12:00:00Z",
            "end": "2026-03-01T12:01:00Z",
            "seconds": "60.000000",
            "phase": "serving",
            "cause": "customer",
            "flavor": price.flavor.slug,
            "region": price.region.slug,
            "price": price.public_id,
            "per_second": "0.010000000",
            "currency": "EUR",
            "exact_amount": "0.600000000000000",
            "recorded_at": row.recorded_at.isoformat().replace("+00:00", "Z"),
        }
    ]
    within = {"since": "2026-03-01T12:00:00Z", "until": "2026-03-01T12:00:01Z", "replica": "uid-1"}
    assert len(alice.api.get("/api/v1/usage/intervals/", within).json()["items"]) == 1


def test_a_stranger_and_a_viewer_see_nothing_of_it(
    alice: Person, bob: Person, charlie: Person, pod: dict[str, Any], running: Callable[..., None]
) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    running(pod, serving(0, 100))
    row = UsageInterval.objects.get()
    assert charlie.api.get("/api/v1/usage/").json()["lines"] == []
    assert charlie.api.get("/api/v1/usage/intervals/").json()["items"] == []
    assert charlie.api.get(f"/api/v1/usage/intervals/{row.public_id}/").status_code == 404
    assert alice.api.get(f"/api/v1/usage/intervals/{row.public_id}/").status_code == 200
    assert [bob.api.get(f"/api/v1/usage/{part}").status_code for part in ("", "intervals/")] == [403, 403]
    accountant = add_person("dora", organization=alice.organization, role=Role.BILLING)
    assert accountant.api.get("/api/v1/usage/").json()["totals"][0]["amount"] == "1.00"


def test_prices_are_those_that_hold_for_the_customer(alice: Person, charlie: Person, price: Price) -> None:
    own = set_price(
        flavor=price.flavor,
        region=price.region,
        organization=alice.organization,
        per_second=Decimal("0.005"),
        currency="EUR",
        since=START,
    )

    def listed(person: Person) -> list[Any]:
        return person.api.get("/api/v1/prices/", {"flavor": price.flavor.slug}).json()["items"]

    assert listed(alice) == [
        {
            "id": own.public_id,
            "flavor": price.flavor.slug,
            "region": price.region.slug,
            "currency": "EUR",
            "per_second": "0.005000000",
            "per_minute": "0.300000000",
            "per_hour": "18.000000000",
            "per_month": "13140.00",
            "valid_from": "2026-03-01T12:00:00Z",
            "valid_until": None,
            "own": True,
        }
    ]
    assert [item["id"] for item in listed(charlie)] == [price.public_id]
    assert charlie.api.get(f"/api/v1/prices/{own.public_id}/").status_code == 404
    assert alice.api.get(f"/api/v1/prices/{price.public_id}/").status_code == 200
    reader = alice.api_with(scopes=[Scope.INFER])
    assert reader.get("/api/v1/prices/").status_code == 403


def test_the_page_shows_the_month_and_its_total(
    alice: Person, charlie: Person, bob: Person, pod: dict[str, Any]
) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    page = alice.browser.get("/usage/", {"month": "2026-03"})
    assert page.status_code == 200
    assert "Usage in March 2026" in page.text and "0.60 EUR" in page.text
    assert "Nothing was used" in charlie.browser.get("/usage/", {"month": "2026-03"}).text
    assert "Nothing was used" in alice.browser.get("/usage/").text
    assert bob.browser.get("/usage/").status_code == 403
    for month in ("2026-13", "0001-01", "9999-12", "x"):
        assert alice.browser.get("/usage/", {"month": month}).status_code == 400


def verify() -> str:
    out = StringIO()
    call_command("verify_ledger", stdout=out, stderr=out)
    return out.getvalue()


def test_a_ledger_that_tiles_is_verified(pod: dict[str, Any], charlie: Person) -> None:
    record_usage(**pod, stretches=[starting(-30, 0), serving(0, 5 * 86_400 + 0.000001)])
    record_usage(**pod, stretches=[serving(0, 6 * 86_400 + 7.654321)])
    theirs = {**pod, "organization": charlie.organization, "replica_uid": "uid-2", "resource": "dep_2"}
    record_usage(**theirs, stretches=[serving(5, 50)])
    assert verify() == "2 replicas, 4 intervals, 3 lines of bills, 0 problems\n"


def test_a_gap_fails_loudly_with_the_replica_and_the_time(pod: dict[str, Any]) -> None:
    record_usage(**pod, stretches=[serving(0, 60), serving(61.5, 90)])
    out = StringIO()
    with pytest.raises(CommandError, match="1 replicas, 2 intervals, 1 lines of bills, 1 problems"):
        call_command("verify_ledger", stderr=out)
    assert out.getvalue() == (
        "replica uid-1 of dep_1: nothing is recorded from "
        "2026-03-01T12:01:00+00:00 to 2026-03-01T12:01:01.500000+00:00 (1.5 s)\n"
    )


def test_time_that_the_cluster_reported_and_nobody_recorded_fails_loudly(pod: dict[str, Any]) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])

    def ended() -> list[live.Lifetime]:
        return [
            live.Lifetime(replica_uid=uid, resource="dep_1", start=at(0), end=at(62))
            for uid in ("uid-1", "uid-9")
        ]

    live.register_lifetimes(ended)
    out = StringIO()
    try:
        with pytest.raises(CommandError, match="2 problems"):
            call_command("verify_ledger", stderr=out)
    finally:
        live.unregister_lifetimes(ended)
    assert out.getvalue() == (
        "replica uid-1 of dep_1: nothing is recorded from "
        "2026-03-01T12:01:00+00:00 to 2026-03-01T12:01:02+00:00 (2 s)\n"
        "replica uid-9 of dep_1 ran from 2026-03-01T12:00:00+00:00 to 2026-03-01T12:01:02+00:00 "
        "and nothing of it is recorded\n"
    )


def test_the_admin_shows_prices_and_usage_and_changes_neither(
    alice: Person, pod: dict[str, Any], price: Price
) -> None:
    record_usage(**pod, stretches=[serving(0, 60)])
    alice.user.is_staff = alice.user.is_superuser = True
    alice.user.save()
    row = UsageInterval.objects.get()
    staff = alice.browser
    for page in ("price", "usageinterval", "quota", f"price/{price.pk}", f"usageinterval/{row.pk}"):
        assert staff.get(f"/admin/billing/{page}/", follow=True).status_code == 200, page
    assert (
        staff.post(f"/admin/billing/usageinterval/{row.pk}/change/", {"cause": "provider"}).status_code == 403
    )
    assert staff.post(f"/admin/billing/usageinterval/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert b'name="per_second"' not in staff.get(f"/admin/billing/price/{price.pk}/change/").content


def test_staff_change_a_quota_and_it_is_noted(alice: Person) -> None:
    alice.user.is_staff = alice.user.is_superuser = True
    alice.user.save()
    form = {"organization": str(alice.organization.pk), "accelerator_family": "cuda", "limit": "8"}
    assert alice.browser.post("/admin/billing/quota/add/", form).status_code == 302
    event = AuditEvent.objects.get()
    assert (event.action, event.actor_user, event.changes["limit"]) == (
        "quota.create",
        alice.user.email,
        [None, 8],
    )


def test_a_statement_costs_a_few_queries_however_long_the_ledger(
    alice: Person, pod: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        record_usage(**{**pod, "replica_uid": f"uid-{number}"}, stretches=[serving(0, 60)])
    alice.api.get("/api/v1/usage/")
    with django_assert_max_num_queries(10):
        assert alice.api.get("/api/v1/usage/").json()["totals"][0]["amount"] == "18.00"


@pytest.mark.django_db(transaction=True)
def test_what_is_recorded_while_a_statement_is_made_is_counted_once(
    alice: Person, pod: dict[str, Any]
) -> None:
    def record() -> None:
        try:
            record_usage(**pod, stretches=[serving(0, 60)])
        finally:
            connection.close()

    class RecordedMeanwhile(list[Stretch]):
        """Looked at after the ledger was asked what it holds, and before it adds up."""

        def __iter__(self) -> Iterator[Stretch]:
            recorder = threading.Thread(target=record)
            recorder.start()
            recorder.join()
            return super().__iter__()

    def source(organization: Organization, now: datetime) -> list[live.LiveUsage]:
        values = {**pod, "stretches": RecordedMeanwhile([serving(0, 60)])}
        del values["organization"]
        return [live.LiveUsage(**values)]

    live.register(source)
    try:
        statement = alice.api.get("/api/v1/usage/").json()
    finally:
        live.unregister(source)
    assert UsageInterval.objects.count() == 1
    assert [line["amount"] for line in statement["lines"]] == ["0.60"]
