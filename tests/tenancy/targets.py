"""An object of a person's organization for each resource of the API, and what to send to its routes.

A new route must be registered here, or `test_every_route_is_covered` fails:

* a resource of an organization needs a function `@owned("its-name")` that makes an object of a person;
* a resource that all customers see alike stands in SHARED, one for the provider's staff only in STAFF;
* a route without any object of its own (about the asker) stands in OWN;
* a route that takes a body needs an entry in BODIES.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from deployments.serving.models import DeletionReceipt
from marketplace.accounts.audit import record
from marketplace.accounts.models import Role
from marketplace.billing.models import Price, UsageCause, UsageInterval, UsagePhase
from marketplace.catalog.models import License, Model
from marketplace.ids import make_public_id
from tests.frameworks import add_framework
from tests.people import Person, add_person
from tests.tenancy.routes import Route


@dataclass(frozen=True)
class Target:
    """An object: the values of the route's parameters, and the text by which an answer shows it."""

    values: Mapping[str, object]
    mark: str
    dataset: str = ""  # that the object was made with


Factory = Callable[[Person], Target]
OWNED: dict[str, Factory] = {}

OWN = frozenset({"me", "organization"})
"""Routes about the asker, whoever that is."""

SHARED = frozenset({"accelerators", "flavors", "frameworks", "licenses", "regions"})
"""What all customers see alike."""

STAFF = frozenset({"imports"})
"""What no customer may use."""

BODIES: dict[str, Callable[[Target], Any]] = {
    "PATCH organization/": lambda target: {"name": "Taken over"},
    "POST members/": lambda target: {"email": "dora@example.com", "role": "owner"},
    "PATCH members/{public_id}/": lambda target: {"role": "viewer"},
    "POST api-keys/": lambda target: {"name": "another", "scopes": ["read"]},
    "POST plans/": lambda target: {"model": "tests/chatter"},
    "POST deployments/": lambda target: {"name": "another", "model": "tests/chatter"},
    "PATCH deployments/{public_id}/": lambda target: {"replicas": 2},
    "POST deployments/{public_id}/preview/": lambda target: {"context_length": 1024},
    "POST deployments/{public_id}/rollback/": lambda target: {"revision": 1, "dry_run": True},
    "POST deployments/{public_id}/actions/": lambda target: {"action": "replicas:1"},
    "POST datasets/": lambda target: {"name": "another", "file": examples()},
    "POST fine-tuning-jobs/": lambda target: tuning_wish("another", target.dataset),
    "POST fine-tuning-jobs/estimate/": lambda target: tuning_wish("another", target.dataset),
    "POST workspaces/": lambda target: workspace_wish("another"),
}
"""What an owner may send to a route that takes a body."""

FOREIGN: dict[str, Callable[[Person], Any]] = {
    "POST plans/": lambda person: {"model": a_private_model(person).mark},
    "POST deployments/": lambda person: {"name": "taken", "plan": a_plan(person).mark},
    "POST fine-tuning-jobs/": lambda person: tuning_wish("taken", a_dataset(person).mark),
    "POST fine-tuning-jobs/estimate/": lambda person: tuning_wish("taken", a_dataset(person).mark),
}
"""What a stranger may send to reach for an object of the person by its id."""


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


@owned("models")
def a_private_model(person: Person) -> Target:
    license, _ = License.objects.get_or_create(slug="test-license", defaults={"name": "Test license"})
    model = Model.objects.create(
        publisher=person.organization.slug,
        slug="tuned",
        name="Tuned",
        owner=person.organization,
        task="text-generation",
        license=license,
    )
    return Target(values={"public_id": model.public_id}, mark=model.public_id)


@owned("prices")
def a_price_of_their_own(person: Person) -> Target:
    everybody = Price.objects.get(organization=None)
    price = Price.objects.create(
        flavor=everybody.flavor,
        region=everybody.region,
        organization=person.organization,
        per_second=everybody.per_second / 2,
        currency=everybody.currency,
        valid=everybody.valid,
    )
    return Target(values={"public_id": price.public_id}, mark=price.public_id)


@owned("usage")
def a_billed_minute(person: Person) -> Target:
    price = Price.objects.get(organization=None)
    end = timezone.now()
    interval = UsageInterval.objects.create(
        organization=person.organization,
        resource=make_public_id("dep"),
        resource_name="bot",
        replica_uid=make_public_id("uid"),
        flavor=price.flavor,
        region=price.region,
        price=price,
        phase=UsagePhase.SERVING,
        cause=UsageCause.CUSTOMER,
        during=DateTimeTZRange(end - timedelta(minutes=1), end),
    )
    return Target(values={"public_id": interval.public_id}, mark=interval.resource)


@owned("plans")
def a_plan(person: Person) -> Target:
    plan = person.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()["id"]
    return Target(values={"public_id": plan}, mark=plan)


@owned("deployments")
def a_deployment(person: Person) -> Target:
    wish = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    deployment = person.api.post("/api/v1/deployments/", wish).json()["id"]
    return Target(values={"public_id": deployment}, mark=deployment)


@owned("deletion-receipts")
def a_receipt(person: Person) -> Target:
    now = timezone.now()
    receipt = DeletionReceipt.objects.create(
        organization=person.organization,
        resource=make_public_id("dep"),
        resource_name="bot",
        requested_at=now,
        gone_at=now,
        totals=[],
        observation={"cluster": "test", "observed_at": now.isoformat(), "selector": "id=bot"},
    )
    return Target(values={"public_id": receipt.public_id}, mark=receipt.public_id)


@owned("datasets")
def a_dataset(person: Person) -> Target:
    upload = {"name": "chats", "file": examples()}
    dataset = person.api.post("/api/v1/datasets/", upload, format="multipart").json()["id"]
    return Target(values={"public_id": dataset}, mark=dataset)


@owned("fine-tuning-jobs")
def a_fine_tuning_job(person: Person) -> Target:
    dataset = a_dataset(person).mark
    job = person.api.post("/api/v1/fine-tuning-jobs/", tuning_wish("support", dataset)).json()["id"]
    return Target(values={"public_id": job}, mark=job, dataset=dataset)


def tuning_wish(name: str, dataset: str) -> dict[str, Any]:
    return {"name": name, "model": "tests/chatter", "training_dataset": dataset, "flavor": "test-small"}


@owned("workspaces")
def a_workspace(person: Person) -> Target:
    add_framework()
    workspace = person.api.post("/api/v1/workspaces/", workspace_wish("lab")).json()["id"]
    return Target(values={"public_id": workspace}, mark=workspace)


def workspace_wish(name: str) -> dict[str, Any]:
    return {"name": name, "framework": "test-framework", "flavor": "test-small"}


def examples() -> SimpleUploadedFile:
    """A dataset of twelve different chats."""
    chats = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]}
        for n in range(12)
    ]
    return SimpleUploadedFile("chats.jsonl", "\n".join(map(json.dumps, chats)).encode())


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
