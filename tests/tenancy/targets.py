"""An object of a person's organization for each resource of the API, and what to send to its routes.

A new route must be registered here, or `test_every_route_is_covered` fails:

* a resource of an organization needs a function `@owned("its-name")` that makes an object of a person;
* a resource that all customers see stands in SHARED;
* a route without any object of its own (about the asker) stands in OWN;
* a route that takes a body needs an entry in BODIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.accounts.audit import record
from marketplace.accounts.models import Role
from tests.people import Person, add_person
from tests.tenancy.routes import Route


@dataclass(frozen=True)
class Target:
    """An object: the values of the route's parameters, and the text by which an answer shows it."""

    values: Mapping[str, object]
    mark: str


Factory = Callable[[Person], Target]
OWNED: dict[str, Factory] = {}

OWN = frozenset({"me", "organization"})
"""Routes about the asker, whoever that is."""

SHARED: frozenset[str] = frozenset()
"""What all customers see alike."""

BODIES: dict[str, Callable[[Target], Any]] = {
    "PATCH organization/": lambda target: {"name": "Taken over"},
    "POST members/": lambda target: {"email": "dora@example.com", "role": "owner"},
    "PATCH members/{public_id}/": lambda target: {"role": "viewer"},
    "POST api-keys/": lambda target: {"name": "another", "scopes": ["read"]},
}
"""What an owner may send to a route that takes a body."""


def owned(resource: str) -> Callable[[Factory], Factory]:
    def register(factory: Factory) -> Factory:
        OWNED[resource] = factory
        return factory

    return register


def target_of(route: Route, person: Person) -> Target:
    """An object of the person that the route is about."""
    if route.resource in OWN:
        return Target(values={}, mark=person.organization.public_id)
    return OWNED[route.resource](person)


def body_of(route: Route, target: Target) -> Any:
    body = BODIES.get(str(route))
    return body(target) if body else None


@owned("members")
def a_member(person: Person) -> Target:
    membership = add_person("helper", organization=person.organization, role=Role.DEVELOPER).membership
    return Target(values={"public_id": membership.public_id}, mark=membership.public_id)


@owned("api-keys")
def an_api_key(person: Person) -> Target:
    key, _ = person.key(scopes=["read"])
    return Target(values={"public_id": key.public_id}, mark=key.public_id)


@owned("audit-events")
def an_audit_event(person: Person) -> Target:
    event = record(actor=person.actor, action="test.happen")
    return Target(values={"public_id": event.public_id}, mark=event.public_id)
