"""Who is acting, for which organization, with which scopes: one value, however the request was signed in.

A program comes with an API key, which belongs to one organization. A person comes with a session and may be a
member of several: the header `X-Organization` (slug or public id) chooses one, else the one chosen in the
portal, else the first that the person joined.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpRequest
from rest_framework.request import Request

from marketplace.accounts.models import ApiKey, Membership, Organization, User
from marketplace.accounts.roles import scopes_of
from marketplace.rest.problems import Problem

ORGANIZATION_HEADER = "X-Organization"
SESSION_ORGANIZATION = "organization"
"""Session entry with the public id of the organization chosen in the portal."""


@dataclass(frozen=True)
class Actor:
    """Exactly one of `user` and `api_key` is set."""

    organization: Organization
    user: User | None
    api_key: ApiKey | None
    scopes: frozenset[str]

    @property
    def name(self) -> str:
        """E-mail address of the person or public id of the API key."""
        if self.user is not None:
            return self.user.email
        return self.api_key.public_id if self.api_key is not None else ""


def actor_of_key(key: ApiKey) -> Actor:
    """The actor behind an accepted API key."""
    return Actor(organization=key.organization, user=None, api_key=key, scopes=frozenset(key.scopes))


def actor_of(request: Request | HttpRequest) -> Actor:
    """The actor of an authenticated request, of REST or of the portal.

    Raises a 403 problem when a person belongs to no organization, or not to the one asked for. Which of the
    two exists is not told, so that names of other organizations cannot be probed.
    """
    plain = request._request if isinstance(request, Request) else request
    known = getattr(plain, "_marketplace_actor", None)
    if isinstance(known, Actor):
        return known
    key = getattr(request, "auth", None)
    if isinstance(key, ApiKey):
        actor = actor_of_key(key)
        _refuse_another_organization(plain, actor.organization)
    else:
        user = request.user
        if not isinstance(user, User):
            raise TypeError("actor_of() needs a request that has been authenticated")
        membership = _membership_of(plain, user)
        actor = Actor(
            organization=membership.organization,
            user=user,
            api_key=None,
            scopes=scopes_of(membership.role),
        )
    plain._marketplace_actor = actor  # type: ignore[attr-defined]
    return actor


def _refuse_another_organization(request: HttpRequest, organization: Organization) -> None:
    asked = request.headers.get(ORGANIZATION_HEADER)
    if asked and asked not in (organization.slug, organization.public_id):
        raise _not_a_member(asked, "This API key does not belong to")


def _membership_of(request: HttpRequest, user: User) -> Membership:
    memberships = user.memberships.select_related("organization").order_by("created_at", "id")
    asked = request.headers.get(ORGANIZATION_HEADER)
    if asked:
        # PostgreSQL takes no NUL in a text, and no slug has one.
        chosen = Q(organization__slug=asked) | Q(organization__public_id=asked)
        membership = None if "\x00" in asked else memberships.filter(chosen).first()
        if membership is None:
            raise _not_a_member(asked, "You are not a member of")
        return membership
    remembered = request.session.get(SESSION_ORGANIZATION) if hasattr(request, "session") else None
    membership = memberships.filter(organization__public_id=remembered).first() if remembered else None
    membership = membership or memberships.first()
    if membership is None:
        raise Problem(
            status=403,
            type="no-organization",
            title="No organization",
            detail="You are not a member of any organization. Ask an owner of yours to add you.",
        )
    return membership


def _not_a_member(asked: str, sentence: str) -> Problem:
    return Problem(
        status=403,
        type="not-a-member",
        title="Not your organization",
        detail=f"{sentence} an organization {asked!r}. Leave {ORGANIZATION_HEADER} out to use your own.",
    )
