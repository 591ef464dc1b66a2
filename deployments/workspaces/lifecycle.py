"""The one writer of what customers wish of workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments.reconcile.tasks import ring_on_commit
from deployments.serving.deletions import request_deletion
from deployments.serving.errors import WishRefused
from deployments.serving.events import record_wish
from deployments.serving.holdings import require_quota
from deployments.serving.models import DesiredState
from deployments.workspaces.models import Workspace
from deployments.workspaces.placing import WorkspaceAsk, find_place
from deployments.workspaces.specs import workspace_spec
from deployments.workspaces.tokens import derive_token, hash_token, token_of
from marketplace.accounts import audit
from marketplace.accounts.actors import Actor
from marketplace.ids import make_public_id

WISH_COLUMNS = ("desired_state", "stop_requested_at", "pauses", "token_number", "token_hash")


def create_workspace(*, actor: Actor, ask: WorkspaceAsk) -> Workspace:
    """Wishes for a workspace that runs. Raises WishRefused when there is no place, price or quota for it, or
    the name is taken.
    """
    place = find_place(ask, organization=actor.organization)
    public_id = make_public_id("wsp")
    spec = workspace_spec(
        resource=public_id, organization=actor.organization.public_id, ask=ask, pool=place.pool
    )
    try:
        with transaction.atomic():
            workspace = Workspace.objects.create(
                public_id=public_id,
                organization=actor.organization,
                name=ask.name,
                created_by=actor.name,
                framework=ask.framework,
                flavor=ask.flavor,
                cluster=place.pool.cluster,
                price=place.price,
                volume_gib=ask.volume_gib,
                spec=spec.to_json(),
                token_hash=hash_token(derive_token(public_id, number=1)),
            )
            _require_room(workspace)
            _announce(
                workspace,
                actor=actor,
                action="create",
                reason="Created",
                message=f"Asked for {ask.framework.name} on {ask.flavor.name}, {ask.volume_gib} GiB.",
            )
    except IntegrityError as error:
        if "one_live_workspace_per_name" not in str(error):
            raise
        raise WishRefused(
            f"A workspace called {ask.name!r} already exists. Delete it first, or choose another name.",
            type="name-taken",
            field="name",
        ) from error
    return workspace


def pause_workspace(*, actor: Actor, workspace: Workspace) -> Workspace:
    """Wishes for nothing but the volume until resumed. Nothing after this moment is billed."""
    with _wishing(workspace) as row:
        if row.desired_state == DesiredState.PAUSED:
            return row
        row.desired_state = DesiredState.PAUSED
        row.stop_requested_at = timezone.now()
        _announce(row, actor=actor, action="pause", reason="PauseRequested", message="Asked to pause.")
    return row


def resume_workspace(*, actor: Actor, workspace: Workspace) -> Workspace:
    """Wishes for the notebook server again, on the same volume. Raises WishRefused without quota."""
    with _wishing(workspace) as row:
        if row.desired_state == DesiredState.RUNNING:
            return row
        _require_room(row)  # a paused workspace gave its share back
        row.desired_state = DesiredState.RUNNING
        row.pauses = row.pauses_until(timezone.now())
        row.stop_requested_at = None
        _announce(row, actor=actor, action="resume", reason="ResumeRequested", message="Asked to resume.")
    return row


def show_token(*, actor: Actor, workspace: Workspace) -> str:
    """The token that opens it. That it was shown is on record."""
    if workspace.is_to_go:
        raise WishRefused("This workspace is being deleted.", type="deleting")
    token = token_of(workspace)
    if token is None:
        raise WishRefused(
            "The token of this workspace cannot be told any more: the installation's secret key was changed. "
            "Ask for another one with POST …/token/rotate/.",
            type="token-lost",
        )
    audit.record(actor=actor, action="workspace.token", target=workspace.public_id)
    return token


def rotate_token(*, actor: Actor, workspace: Workspace) -> Workspace:
    """Wishes for another token. The server starts again with it, so that nobody stays who had the old one."""
    with _wishing(workspace) as row:
        row.token_number += 1
        row.token_hash = hash_token(derive_token(row.public_id, number=row.token_number))
        _announce(
            row,
            actor=actor,
            action="rotate-token",
            reason="TokenRotated",
            message="Asked for another token; the old one opens nothing once the server has started again.",
        )
    return row


def delete_workspace(*, actor: Actor, workspace: Workspace) -> Workspace:
    """Wishes for nothing to be left, the volume included. Billing ends now."""
    with _wishing(workspace, deleted_too=True) as row:
        if row.is_to_go:
            return row
        now = timezone.now()
        row.desired_state = DesiredState.DELETED
        row.stop_requested_at = row.stop_requested_at or now
        request_deletion(row, actor=actor.name, at=now)
        _announce(
            row,
            actor=actor,
            action="delete",
            reason="DeleteRequested",
            message="Asked to delete, with all that is on its volume.",
        )
    return row


@contextmanager
def _wishing(workspace: Workspace, *, deleted_too: bool = False) -> Iterator[Workspace]:
    """The row, locked for one short transaction, saved with the next generation if it was changed."""
    with transaction.atomic():
        row = Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
        if row.is_to_go and not deleted_too:
            raise WishRefused("This workspace is being deleted.", type="deleting")
        before = [getattr(row, column) for column in WISH_COLUMNS]
        yield row
        if [getattr(row, column) for column in WISH_COLUMNS] != before:
            row.generation += 1
            row.save(update_fields=[*WISH_COLUMNS, "generation"])


def _require_room(row: Workspace) -> None:
    require_quota(organization=row.organization, wanted=[(row.flavor, 1)], besides=row)


def _announce(workspace: Workspace, *, actor: Actor, action: str, reason: str, message: str) -> None:
    record_wish(workspace, actor=actor, reason=reason, message=message)
    audit.record(actor=actor, action=f"workspace.{action}", target=workspace.public_id)
    ring_on_commit(workspace.public_id)
