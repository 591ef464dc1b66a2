"""How a wish is written: the row locked, its next generation, an event, an audit entry and a doorbell, all in
one transaction. Only `lifecycle` and `revising` call this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import Max

from deployments.reconcile.rollout import canary_replicas
from deployments.reconcile.tasks import ring_on_commit
from deployments.serving.errors import WishRefused
from deployments.serving.events import record_wish
from deployments.serving.holdings import require_quota
from deployments.serving.models import Deployment, DesiredState
from marketplace.accounts import audit
from marketplace.accounts.actors import Actor

WISH_COLUMNS = (
    "plan_id",
    "recipe_id",
    "flavor_id",
    "price_id",
    "desired_state",
    "desired_replicas",
    "target_revision",
    "strategy",
    "progress_seconds",
    "canary_weight",
    "stable_revision",
    "stop_requested_at",
    "pauses",
)


@contextmanager
def wishing(deployment: Deployment, *, deleted_too: bool = False) -> Iterator[Deployment]:
    """The row, locked for one short transaction, saved with the next generation if it was changed."""
    with transaction.atomic():
        row = Deployment.objects.select_for_update(of=("self",)).get(pk=deployment.pk)
        if row.desired_state == DesiredState.DELETED and not deleted_too:
            raise WishRefused("This deployment is being deleted.", type="deleting")
        before = _wish_of(row)
        yield row
        if _wish_of(row) != before:
            row.generation += 1
            row.save(update_fields=[*(column.removesuffix("_id") for column in WISH_COLUMNS), "generation"])


def _wish_of(row: Deployment) -> list[Any]:
    return [getattr(row, column) for column in WISH_COLUMNS]


def require_unchanged(row: Deployment, *, since: Deployment) -> None:
    """Raises WishRefused when the wish was changed since the caller read it: they would undo that change."""
    if row.generation != since.generation:
        raise WishRefused(
            f"The deployment was changed meanwhile (generation {row.generation}; this change was made "
            f"for generation {since.generation}). Read it again, and send what is still to change.",
            type="changed-meanwhile",
            generation=row.generation,
        )


def require_room(row: Deployment) -> None:
    """An accepted plan found room once; others may have taken it since, or the same plan did.

    Of a rollout only the new side counts, since the old one goes; of a canary both, each on its own flavor,
    since both stay for as long as the customer wishes.
    """
    wanted = [(row.flavor, row.desired_replicas)]
    if row.canary_weight is not None and row.stable_revision is not None:
        stable = row.revisions.select_related("flavor__accelerator").get(number=row.stable_revision)
        canary = canary_replicas(row.desired_replicas, weight=row.canary_weight)
        wanted = [(stable.flavor, row.desired_replicas), (row.flavor, canary)]
    require_quota(organization=row.organization, wanted=wanted, besides=row)


def next_number(row: Deployment) -> int:
    """Of a new revision: numbers only grow, also after an update that was taken back."""
    newest = row.revisions.aggregate(newest=Max("number"))["newest"]
    return int(newest or 0) + 1


def announce(
    deployment: Deployment,
    *,
    actor: Actor,
    action: str,
    reason: str,
    message: str,
    changes: dict[str, Any] | None = None,
) -> None:
    """Tells of a wish: to the customer, to the auditor and to the reconciler."""
    record_wish(deployment, actor=actor, reason=reason, message=message)
    audit.record(
        actor=actor, action=f"deployment.{action}", target=deployment.public_id, changes=changes or {}
    )
    ring_on_commit(deployment.public_id)
