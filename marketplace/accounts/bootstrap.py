"""The first people of an installation, so that somebody can sign in: staff, and a customer with an API key.

Secrets are random and told once, to whoever called. Run again, it makes what is missing and leaves the rest
alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from marketplace.accounts.keys import issue_key
from marketplace.accounts.models import ApiKey, Membership, Organization, Role, Scope, User

KEY_NAME = "bootstrap"


@dataclass(frozen=True)
class Credentials:
    """What was made. A secret is None when its owner was there before: nobody can read it again."""

    admin_email: str
    admin_password: str | None
    user_email: str
    user_password: str | None
    organization: str  # slug
    organization_id: str
    api_key: str | None


@transaction.atomic
def bootstrap(
    *,
    admin_email: str = "admin@example.com",
    user_email: str = "demo@example.com",
    organization: str = "demo",
    reset: bool = False,
) -> Credentials:
    """Makes sure that a staff user, an organization with an owner, and an API key of all scopes exist.

    With `reset`, both passwords and the API key are replaced; the former key is revoked.
    """
    admin_password = _ensure_user(admin_email, reset=reset, is_staff=True, is_superuser=True)
    user_password = _ensure_user(user_email, reset=reset)
    row, _ = Organization.objects.get_or_create(slug=organization, defaults={"name": organization.title()})
    owner = User.objects.get(email=user_email.lower())
    Membership.objects.get_or_create(organization=row, user=owner, defaults={"role": Role.OWNER})
    return Credentials(
        admin_email=admin_email,
        admin_password=admin_password,
        user_email=user_email,
        user_password=user_password,
        organization=row.slug,
        organization_id=row.public_id,
        api_key=_ensure_key(row, owner, reset=reset),
    )


@transaction.atomic
def ensure_staff(*, email: str, password: str) -> bool:
    """Makes a member of staff with all rights; False when the address has an account: that stays as it is."""
    if User.objects.select_for_update().filter(email=email.lower()).exists():
        return False
    User.objects.create_user(email, password, is_staff=True, is_superuser=True)
    return True


def _ensure_user(email: str, *, reset: bool, **flags: bool) -> str | None:
    """The password given to the user; None when the user kept theirs."""
    user = User.objects.select_for_update().filter(email=email.lower()).first()
    if user is not None and not reset:
        return None
    password = secrets.token_urlsafe(12)
    if user is None:
        User.objects.create_user(email, password, **flags)
    else:
        user.set_password(password)
        user.save(update_fields=["password"])
    return password


def _ensure_key(organization: Organization, owner: User, *, reset: bool) -> str | None:
    live = ApiKey.objects.filter(organization=organization, name=KEY_NAME, revoked_at__isnull=True)
    if live.exists():
        if not reset:
            return None
        live.update(revoked_at=timezone.now())
    _, secret = issue_key(organization=organization, name=KEY_NAME, scopes=Scope.values, created_by=owner)
    return secret
