"""The scopes of each role. Pure data, apart from the checks that use it."""

from __future__ import annotations

from marketplace.accounts.models import Role, Scope

SCOPES_OF_ROLE: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset(Scope.values),
    Role.DEVELOPER: frozenset({Scope.READ, Scope.DEPLOY, Scope.TUNE, Scope.INFER}),
    Role.BILLING: frozenset({Scope.READ, Scope.BILLING}),
    Role.VIEWER: frozenset({Scope.READ}),
}


def scopes_of(role: str) -> frozenset[str]:
    """What a member with this role may do; nothing for a role that is not known."""
    return SCOPES_OF_ROLE.get(role, frozenset())
