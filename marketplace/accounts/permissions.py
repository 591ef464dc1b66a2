"""The check that every REST view makes: may this actor do that?

A role is for people, a scope for what is done. A person has the scopes of the role in the organization; an
API key has the scopes it was made with. Views name scopes only, so that both are checked in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission

from marketplace.accounts.actors import actor_of
from marketplace.accounts.models import Scope
from marketplace.rest.problems import Problem

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView


def required_scope(view: object, method: str) -> Scope:
    """The scope that `method` of a view needs.

    A view says so in `required_scopes = {"GET": Scope.READ, "POST": Scope.DEPLOY}`. A method it does not name
    needs READ when it changes nothing and ADMIN when it may, so that forgetting one closes the door.
    """
    declared: Mapping[str, Scope] = getattr(view, "required_scopes", {})
    if method == "HEAD" and "HEAD" not in declared:
        method = "GET"
    return declared.get(method, Scope.READ if method in SAFE_METHODS else Scope.ADMIN)


class HasScope(BasePermission):
    """Allows an actor whose role or API key grants the scope that the view needs."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.successful_authenticator:
            return False  # 401, with what to send
        needed = required_scope(view, str(request.method))
        actor = actor_of(request)
        if needed in actor.scopes:
            return True
        granted = ", ".join(sorted(actor.scopes)) or "none"
        whose = "This API key" if actor.api_key else "Your role"
        raise Problem(
            status=403,
            type="scope-missing",
            title="Not allowed",
            detail=f"{whose} grants the scopes: {granted}. This request needs '{needed}'.",
            required_scope=str(needed),
        )
