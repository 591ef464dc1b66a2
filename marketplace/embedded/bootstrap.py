"""The first people of a new installation: an administrator, and a demo organization with a user and a key.

Passwords and the key are random and kept in home/credentials.json, readable only by the owner of the
home, because the database keeps hashes only. The file is written before the rows, so that a crash in between
is mended by the next start.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from marketplace.accounts.actors import Actor
from marketplace.accounts.audit import record
from marketplace.accounts.keys import KeyRefused, authenticate_key, issue_key
from marketplace.accounts.models import Membership, Organization, Role, Scope, User

ADMIN_EMAIL = "admin@marketplace.localhost"
DEMO_EMAIL = "demo@marketplace.localhost"
DEMO_ORGANIZATION = "demo"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a person needs to use a new installation. Secret."""

    admin_email: str
    admin_password: str
    organization: str
    """Slug of the demo organization."""
    user_email: str
    user_password: str
    api_key: str = ""
    """With every scope of the demo organization."""


def credentials_file(root: Path) -> Path:
    return root / "credentials.json"


def read_credentials(root: Path) -> Credentials | None:
    """The credentials of this home; None when none were made."""
    try:
        return Credentials(**json.loads(credentials_file(root).read_text()))
    except FileNotFoundError:
        return None


def write_credentials(root: Path, credentials: Credentials) -> None:
    """Replaces the file, never readable by others."""
    fresh = root / "credentials.json.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(asdict(credentials), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, credentials_file(root))


def bootstrap(root: Path) -> Credentials | None:
    """Makes what is missing and returns the credentials; repeating it changes nothing.

    Returns None, and makes nothing, in a database that already has an administrator whom we did not make.
    """
    credentials = read_credentials(root)
    if credentials is None:
        if User.objects.filter(is_superuser=True).exists():
            return None
        credentials = Credentials(
            admin_email=ADMIN_EMAIL,
            admin_password=secrets.token_urlsafe(12),
            organization=DEMO_ORGANIZATION,
            user_email=DEMO_EMAIL,
            user_password=secrets.token_urlsafe(12),
        )
        write_credentials(root, credentials)
    with transaction.atomic():
        _ensure_admin(credentials)
        organization, user = _ensure_demo(credentials)
    if not _works(credentials.api_key):
        key, secret = issue_key(
            organization=organization, name="First key", scopes=Scope.values, created_by=user
        )
        credentials = replace(credentials, api_key=secret)
        write_credentials(root, credentials)
        actor = Actor(organization=organization, user=user, api_key=None, scopes=frozenset(Scope.values))
        record(actor=actor, action="api-key.create", target=key.public_id)
    return credentials


def _ensure_admin(credentials: Credentials) -> None:
    if not User.objects.filter(email=credentials.admin_email).exists():
        User.objects.create_superuser(credentials.admin_email, credentials.admin_password)


def _ensure_demo(credentials: Credentials) -> tuple[Organization, User]:
    organization, _ = Organization.objects.get_or_create(
        slug=credentials.organization, defaults={"name": "Demo organization"}
    )
    user = User.objects.filter(email=credentials.user_email).first()
    if user is None:
        user = User.objects.create_user(credentials.user_email, credentials.user_password)
    Membership.objects.get_or_create(organization=organization, user=user, defaults={"role": Role.OWNER})
    return organization, user


def _works(api_key: str) -> bool:
    try:
        authenticate_key(api_key, now=timezone.now())
    except KeyRefused:
        return False
    return True
