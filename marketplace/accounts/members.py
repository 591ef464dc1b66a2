"""What members change of organizations and memberships; staff do it in the admin. Each change is audited in
its own transaction.

Two rules hold whatever is asked: an organization keeps an owner, and nobody hands out more than they have.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from marketplace.accounts.actors import Actor
from marketplace.accounts.audit import record
from marketplace.accounts.models import ApiKey, Membership, Organization, Role, User
from marketplace.accounts.roles import scopes_of
from marketplace.rest.problems import Problem, invalid, not_found


@transaction.atomic
def rename_organization(*, actor: Actor, name: str) -> Organization:
    """Changes the display name; the slug stays, because clusters and URLs are named by it."""
    organization = Organization.objects.select_for_update().get(pk=actor.organization.pk)
    if organization.name != name:
        before, organization.name = organization.name, name
        organization.save(update_fields=["name"])
        record(
            actor=actor,
            action="organization.rename",
            target=organization.public_id,
            changes={"name": [before, name]},
        )
    return organization


def add_member(*, actor: Actor, email: str, role: str) -> Membership:
    """Adds the user with this e-mail address. Raises problems: 400 for no such user, 409 for a member."""
    _refuse_more_than_own(actor, role)
    user = User.objects.filter(email=email.strip().lower(), is_active=True).first()
    if user is None:
        message = f"There is no account {email}. Ask the provider's staff to create it."
        raise invalid([{"field": "email", "message": message}])
    try:
        with transaction.atomic():
            membership = Membership.objects.create(organization=actor.organization, user=user, role=role)
            record(
                actor=actor,
                action="member.add",
                target=membership.public_id,
                changes={"email": [None, user.email], "role": [None, role]},
            )
    except IntegrityError as error:
        raise Problem(
            status=409,
            type="already-a-member",
            title="Already a member",
            detail=f"{user.email} is a member of {actor.organization.name}. Change the role instead.",
        ) from error
    return membership


@transaction.atomic
def change_role(*, actor: Actor, membership: Membership, role: str) -> Membership:
    """Gives a member another role, and revokes the API keys they made that the new role does not cover.

    Raises a problem, 404, when they were removed meanwhile.
    """
    _refuse_more_than_own(actor, role)
    _lock(membership.organization)
    try:
        membership.refresh_from_db()
    except Membership.DoesNotExist as error:
        raise not_found() from error
    if membership.role == role:
        return membership
    if membership.role == Role.OWNER:
        _keep_an_owner(membership)
    before, membership.role = membership.role, role
    membership.save(update_fields=["role"])
    record(
        actor=actor,
        action="member.change_role",
        target=membership.public_id,
        changes={"email": [membership.user.email] * 2, "role": [before, role]},
    )
    revoke_keys(actor=actor, membership=membership, allowed=scopes_of(role))
    return membership


@transaction.atomic
def remove_member(*, actor: Actor, membership: Membership) -> None:
    """Takes a member out, and revokes the API keys they made: a secret leaves with its maker."""
    _lock(membership.organization)
    found = Membership.objects.filter(pk=membership.pk).first()  # as it is now that nobody else changes it
    if found is None:
        return
    membership = found
    if membership.role == Role.OWNER:
        _keep_an_owner(membership)
    revoke_keys(actor=actor, membership=membership, allowed=frozenset())
    record(
        actor=actor,
        action="member.remove",
        target=membership.public_id,
        changes={"email": [membership.user.email, None], "role": [membership.role, None]},
    )
    membership.delete()


def _lock(organization: Organization) -> None:
    """Two owners who leave in the same moment must not both see the other one stay."""
    Organization.objects.select_for_update().get(pk=organization.pk)


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(
        organization=membership.organization, role=Role.OWNER, user__is_active=True
    ).exclude(pk=membership.pk)
    if not others.exists():
        raise Problem(
            status=409,
            type="last-owner",
            title="The last owner stays",
            detail=f"{membership.user.email} is the only owner of {membership.organization.name}. "
            "Make another member an owner first.",
        )


def _refuse_more_than_own(actor: Actor, role: str) -> None:
    if missing := scopes_of(role) - actor.scopes:
        raise Problem(
            status=403,
            type="wider-than-own",
            title="More than you may do yourself",
            detail=f"The role {role} has scopes that you lack: {', '.join(sorted(missing))}.",
        )


def revoke_keys(*, actor: Actor, membership: Membership, allowed: frozenset[str]) -> None:
    """Revokes the keys that a member made and whose scopes are more than `allowed`."""
    keys = ApiKey.objects.filter(
        organization=membership.organization, created_by=membership.user, revoked_at__isnull=True
    )
    for key in keys.select_for_update():
        if not set(key.scopes) <= allowed:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at"])
            record(
                actor=actor,
                action="api_key.revoke",
                target=key.public_id,
                changes={"revoked_at": [None, key.revoked_at.isoformat()]},
            )
