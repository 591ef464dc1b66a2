"""Nobody sees or changes what belongs to another organization: on every route, by everyone who might try.

alice owns, bob views in the same organization, charlie owns another. Routes are found in the URLconf, so a
new one is in these tests from its first day.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from marketplace.accounts.models import Scope
from marketplace.billing.models import Price
from tests.market import Market
from tests.people import Person
from tests.tenancy.routes import Route, api_routes
from tests.tenancy.targets import BODIES, FOREIGN, OWN, OWNED, SHARED, STAFF, Target, body_of, target_of
from tests.tenancy.world import state_of_the_world

ROUTES = api_routes()
PRIVATE = [route for route in ROUTES if route.resource not in SHARED | STAFF]
every_route = pytest.mark.parametrize("route", ROUTES, ids=str)
every_private_route = pytest.mark.parametrize("route", PRIVATE, ids=str)


def send(api: APIClient, route: Route, target: Target, **values: object) -> Any:
    url = route.url(**{**target.values, **values})
    body = body_of(route, target)
    has_file = isinstance(body, dict) and any(isinstance(value, UploadedFile) for value in body.values())
    return getattr(api, route.method.lower())(url, body, format="multipart" if has_file else "json")


def without_request_id(answer: Any) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


def test_every_route_is_covered() -> None:
    unknown = {route.resource for route in ROUTES} - OWNED.keys() - OWN - SHARED - STAFF
    without_body = {
        str(route) for route in PRIVATE if route.method in ("PATCH", "PUT") and str(route) not in BODIES
    }
    assert (unknown, without_body) == (set(), set()), "register them in tests/tenancy/targets.py"
    stale = set(BODIES) - {str(route) for route in ROUTES}
    assert stale == set(), "BODIES names routes that are no more"


@every_private_route
def test_the_owner_gets_through(route: Route, alice: Person) -> None:
    """Without this, a 404 for a stranger would prove nothing."""
    target = target_of(route, alice)
    answer = send(alice.api, route, target)
    assert answer.status_code not in (401, 403, 404, 405, 500), answer.content
    if route.is_safe and not route.parameters:
        assert target.mark in answer.content.decode()


@every_private_route
def test_a_stranger_finds_nothing_and_changes_nothing(route: Route, alice: Person, charlie: Person) -> None:
    target = target_of(route, alice)
    charlie.api.get("/api/v1/me/")
    before = state_of_the_world()
    answer = send(charlie.api, route, target)
    if route.parameters:
        assert answer.status_code == 404
        unknown = {name: "never_was" for name, value in target.values.items() if isinstance(value, str)}
        assert without_request_id(answer) == without_request_id(send(charlie.api, route, target, **unknown))
        assert state_of_the_world() == before
    else:
        assert target.mark not in answer.content.decode()
        assert of_organization(alice, state_of_the_world()) == of_organization(alice, before)


@pytest.mark.parametrize("route", [route for route in ROUTES if str(route) in FOREIGN], ids=str)
def test_a_stranger_cannot_build_on_what_is_not_theirs(route: Route, alice: Person, charlie: Person) -> None:
    body = FOREIGN[str(route)](alice)
    assert getattr(alice.api, route.method.lower())(route.url(), body).status_code != 404
    charlie.api.get("/api/v1/me/")
    before = state_of_the_world()
    answer = getattr(charlie.api, route.method.lower())(route.url(), body)
    assert answer.status_code in (400, 404), answer.content
    assert state_of_the_world() == before


@pytest.mark.parametrize("route", [route for route in ROUTES if route.resource in STAFF], ids=str)
def test_customers_do_not_use_what_is_for_staff(route: Route, alice: Person) -> None:
    check_refusal(alice.api, route, alice, expected=(403, "/problems/staff-only"))


@pytest.mark.parametrize("route", [route for route in ROUTES if route.resource in SHARED], ids=str)
def test_what_is_shared_is_only_read(route: Route) -> None:
    assert (route.method, route.scope) == ("GET", Scope.READ)


@pytest.mark.parametrize("address", ["flavors/", "models/"])
def test_a_price_agreed_with_one_customer_is_not_shown_to_another(
    address: str, alice: Person, charlie: Person, market: Market
) -> None:
    Price.objects.create(
        flavor=market.flavor,
        region=market.region,
        organization=alice.organization,
        per_second=Decimal("0.000777"),
        currency="EUR",
        valid=market.price.valid,
    )
    shown = [person.api.get(f"/api/v1/{address}").content.decode() for person in (alice, charlie)]
    assert ['"0.000777"' in text for text in shown] == [True, False]


@every_route
def test_nobody_gets_in_without_a_key(route: Route, alice: Person, anonymous: APIClient) -> None:
    check_refusal(anonymous, route, alice, expected=(401, "/problems/not-authenticated"))


@every_route
def test_an_expired_key_opens_nothing(route: Route, alice: Person) -> None:
    expired = alice.api_with(expires_at=timezone.now() - timedelta(seconds=1))
    check_refusal(expired, route, alice, expected=(401, "/problems/key-expired"))


@every_route
def test_a_key_without_the_scope_opens_nothing(route: Route, alice: Person) -> None:
    narrow = alice.api_with(scopes=set(Scope.values) - {route.scope})
    check_refusal(narrow, route, alice, expected=(403, "/problems/scope-missing"))


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scope != Scope.READ], ids=str)
def test_a_viewer_cannot_use_what_needs_more_than_reading(route: Route, alice: Person, bob: Person) -> None:
    check_refusal(bob.api, route, alice, expected=(403, "/problems/scope-missing"))


@pytest.mark.parametrize("route", [route for route in PRIVATE if route.scope == Scope.READ], ids=str)
def test_a_viewer_reads_what_the_owner_reads(route: Route, alice: Person, bob: Person) -> None:
    assert route.is_safe, f"{route} changes something and needs only '{Scope.READ}'"
    target = target_of(route, alice)
    assert send(bob.api, route, target).status_code == send(alice.api, route, target).status_code


def check_refusal(api: APIClient, route: Route, owner: Person, *, expected: tuple[int, str]) -> None:
    if route.resource in SHARED | STAFF:
        target = Target(values=dict.fromkeys(route.parameters, "any"), mark="")
    else:
        target = target_of(route, owner)
    before = state_of_the_world()
    answer = send(api, route, target)
    assert (answer.status_code, answer.json()["type"]) == expected
    assert state_of_the_world() == before


def of_organization(person: Person, world: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows that name the person's organization, in any table."""
    mark = f'"organization_id": {person.organization.pk},'
    rows = {table: [row for row in rows if mark in row] for table, rows in world.items()}
    rows["accounts_organization"] = [
        row for row in world["accounts_organization"] if person.organization.public_id in row
    ]
    return rows
