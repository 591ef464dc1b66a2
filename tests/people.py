"""The people of the tests. alice owns an organization, bob helps her as a viewer, charlie is a stranger.

A pytest plugin: its fixtures are there in every test. A fixture gives a `Person`, whose `api` speaks REST
with an API key of all scopes that the person's role grants:

    def test_it_hides_the_deployment_of_another(alice, charlie):
        mine = alice.api.post("/api/v1/deployments/", {...}).json()
        assert charlie.api.get(f"/api/v1/deployments/{mine['id']}/").status_code == 404
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from rest_framework.test import APIClient

from marketplace.accounts.actors import Actor, actor_of_key
from marketplace.accounts.keys import issue_key
from marketplace.accounts.models import ApiKey, Membership, Organization, Role, User
from marketplace.accounts.roles import scopes_of

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Person:
    """A user with a membership."""

    user: User
    organization: Organization
    membership: Membership

    def key(
        self, *, scopes: Iterable[str] | None = None, expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """A new API key and its secret; without `scopes`, with all that the role grants."""
        return issue_key(
            organization=self.organization,
            name=f"{self.user.email}'s key",
            scopes=scopes_of(self.membership.role) if scopes is None else scopes,
            expires_at=expires_at,
            created_by=self.user,
        )

    def api_with(
        self, *, scopes: Iterable[str] | None = None, expires_at: datetime | None = None
    ) -> APIClient:
        """A REST client with a new API key."""
        return api_with_secret(self.key(scopes=scopes, expires_at=expires_at)[1])

    @cached_property
    def api(self) -> APIClient:
        """A REST client with an API key of all scopes of the role."""
        return self.api_with()

    @cached_property
    def actor(self) -> Actor:
        """The person as the services see one who came with an API key."""
        return actor_of_key(self.key()[0])

    @cached_property
    def browser(self) -> Client:
        """A signed-in browser for the portal."""
        client = Client()
        client.force_login(self.user)
        return client


def api_with_secret(secret: str) -> APIClient:
    """A REST client that sends this API key."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def add_person(name: str, *, organization: Organization, role: str) -> Person:
    """A new user `name`@example.com with a role in the organization."""
    user = User.objects.create(
        email=f"{name}@example.com", password=_hashed_password(), first_name=name.title()
    )
    membership = Membership.objects.create(organization=organization, user=user, role=role)
    return Person(user=user, organization=organization, membership=membership)


@cache
def _hashed_password() -> str:
    """Hashing a password is slow by design; the same one for everybody needs it once."""
    return make_password(PASSWORD)


@pytest.fixture
def acme(db: None) -> Organization:
    """alice's and bob's organization."""
    return Organization.objects.create(slug="acme", name="Acme")


@pytest.fixture
def umbrella(db: None) -> Organization:
    """charlie's organization."""
    return Organization.objects.create(slug="umbrella", name="Umbrella")


@pytest.fixture
def alice(acme: Organization) -> Person:
    """Owner of acme."""
    return add_person("alice", organization=acme, role=Role.OWNER)


@pytest.fixture
def bob(acme: Organization) -> Person:
    """Viewer in acme."""
    return add_person("bob", organization=acme, role=Role.VIEWER)


@pytest.fixture
def charlie(umbrella: Organization) -> Person:
    """Owner of another organization."""
    return add_person("charlie", organization=umbrella, role=Role.OWNER)


@pytest.fixture
def anonymous() -> APIClient:
    """A REST client without any key."""
    return APIClient()
