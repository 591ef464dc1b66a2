"""The one writer of what customers wish of deployments.

Every function writes wish columns, bumps `generation`, records an event and an audit entry, and rings the
reconciler, all in one transaction. None of them touches a cluster: `deployments.reconcile` makes it so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments.reconcile.tasks import ring_on_commit
from deployments.serving.errors import WishRefused
from deployments.serving.events import record_wish
from deployments.serving.holdings import require_quota
from deployments.serving.models import Deployment, DesiredState, Plan, Revision
from deployments.serving.plans import ask_of, pool_of
from deployments.serving.specs import serving_spec
from marketplace.accounts import audit
from marketplace.accounts.actors import Actor
from marketplace.billing.models import Price
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.hardware.models import NodePool


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What an accepted plan settled."""

    version: ModelVersion
    recipe: Recipe
    pool: NodePool
    price: Price
    spec: dict[str, Any]


def create_deployment(*, actor: Actor, plan: Plan, name: str) -> Deployment:
    """Wishes for a deployment as planned. Raises WishRefused when the plan or the name cannot be used."""
    accepted = _accept(plan)
    try:
        with transaction.atomic():
            deployment = Deployment.objects.create(
                organization=actor.organization,
                name=name,
                created_by=actor.name,
                plan=plan,
                recipe=accepted.recipe,
                flavor=accepted.pool.flavor,
                cluster=accepted.pool.cluster,
                price=accepted.price,
                desired_replicas=accepted.spec["replicas"],
            )
            _require_quota(deployment)
            _add_revision(deployment, actor=actor, accepted=accepted)
            _announce(
                deployment,
                actor=actor,
                action="create",
                reason="Created",
                message=f"Asked for {accepted.version.model.name} on {accepted.pool.flavor.name}, "
                f"{accepted.spec['replicas']} replica(s).",
                changes={"plan": [None, plan.public_id]},
            )
    except IntegrityError as error:
        if "one_live_deployment_per_name" not in str(error):
            raise
        raise WishRefused(
            f"A deployment called {name!r} already exists. Delete it first, or choose another name.",
            type="name-taken",
            field="name",
        ) from error
    return deployment


def update_deployment(*, actor: Actor, deployment: Deployment, plan: Plan) -> Deployment:
    """Wishes for what the plan says instead: a new revision, or only another number of replicas.

    The plan was made from `deployment` as the caller read it. Raises WishRefused when it was changed since:
    the plan would undo that change.
    """
    accepted = _accept(plan)
    with _wishing(deployment) as row:
        if row.generation != deployment.generation:
            raise WishRefused(
                f"The deployment was changed meanwhile (generation {row.generation}; this change was made "
                f"for generation {deployment.generation}). Read it again, and send what is still to change.",
                type="changed-meanwhile",
                generation=row.generation,
            )
        if accepted.pool.cluster != row.cluster:
            raise WishRefused(
                f"This deployment runs in {row.cluster.region}; it cannot move to {accepted.spec['region']}. "
                "Create another deployment there.",
                type="region-fixed",
                field="region",
            )
        before = ask_of(row).to_spec()
        changes = {
            key: [before.get(key), value] for key, value in plan.spec.items() if before.get(key) != value
        }
        if not changes:
            return row
        row.plan = plan
        row.desired_replicas = plan.spec["replicas"]
        if changes.keys() - {"replicas"}:
            row.recipe, row.flavor, row.price = accepted.recipe, accepted.pool.flavor, accepted.price
            row.target_revision += 1
            _add_revision(row, actor=actor, accepted=accepted)
        if row.desired_state == DesiredState.RUNNING:
            _require_quota(row)
        _announce(
            row,
            actor=actor,
            action="update",
            reason="Changed",
            message="Asked to change "
            + ", ".join(f"{key} to {new}" for key, (_, new) in changes.items())
            + ".",
            changes=changes,
        )
    return row


def pause_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for no replicas until resumed. Nothing after this moment is billed."""
    with _wishing(deployment) as row:
        if row.desired_state == DesiredState.PAUSED:
            return row
        row.desired_state = DesiredState.PAUSED
        row.stop_requested_at = timezone.now()
        _announce(row, actor=actor, action="pause", reason="PauseRequested", message="Asked to pause.")
    return row


def resume_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for replicas again."""
    with _wishing(deployment) as row:
        if row.desired_state == DesiredState.RUNNING:
            return row
        _require_quota(row)  # a paused deployment gave its share back
        row.desired_state = DesiredState.RUNNING
        row.stop_requested_at = None
        _announce(row, actor=actor, action="resume", reason="ResumeRequested", message="Asked to resume.")
    return row


def delete_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for nothing to be left. Billing ends now; the row says `deleted` once nothing is observed."""
    with _wishing(deployment, deleted_too=True) as row:
        if row.desired_state == DesiredState.DELETED:
            return row
        row.desired_state = DesiredState.DELETED
        row.stop_requested_at = row.stop_requested_at or timezone.now()
        _announce(row, actor=actor, action="delete", reason="DeleteRequested", message="Asked to delete.")
    return row


@contextmanager
def _wishing(deployment: Deployment, *, deleted_too: bool = False) -> Iterator[Deployment]:
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


WISH_COLUMNS = (
    "plan_id",
    "recipe_id",
    "flavor_id",
    "price_id",
    "desired_state",
    "desired_replicas",
    "target_revision",
    "stop_requested_at",
)


def _wish_of(row: Deployment) -> list[Any]:
    return [getattr(row, column) for column in WISH_COLUMNS]


def _require_quota(row: Deployment) -> None:
    """An accepted plan found room once; others may have taken it since, or the same plan did."""
    require_quota(
        organization=row.organization, flavor=row.flavor, replicas=row.desired_replicas, besides=row
    )


def _accept(plan: Plan) -> Accepted:
    if not plan.accepted or plan.recipe is None or plan.price is None:
        raise WishRefused(
            "This plan was not accepted; its checks say why.",
            type="plan-not-accepted",
            field="plan",
            checks=[check for check in plan.answer["checks"] if not check["passed"] and check["blocking"]],
        )
    if plan.expires_at <= timezone.now():
        raise WishRefused("This plan has expired; make a new one.", type="plan-expired", field="plan")
    try:
        pool = pool_of(plan)
    except NodePool.DoesNotExist as error:
        raise WishRefused(
            "What this plan was made for takes no workloads any more; make a new one.",
            type="plan-expired",
            field="plan",
        ) from error
    versions = ModelVersion.objects.select_related("model", "parent")
    return Accepted(
        version=versions.get(public_id=plan.spec["model"]),
        recipe=plan.recipe,
        pool=pool,
        price=plan.price,
        spec=plan.spec,
    )


def _add_revision(deployment: Deployment, *, actor: Actor, accepted: Accepted) -> Revision:
    spec = serving_spec(
        resource=deployment.public_id,
        organization=deployment.organization.public_id,
        revision=deployment.target_revision,
        name=deployment.name,
        version=accepted.version,
        recipe=accepted.recipe,
        flavor=accepted.pool.flavor,
        pool=accepted.pool,
        context_length=accepted.spec["context_length"],
        max_concurrency=accepted.spec["max_concurrency"],
    )
    return Revision.objects.create(
        deployment=deployment,
        number=deployment.target_revision,
        version=accepted.version,
        flavor=accepted.pool.flavor,
        price=accepted.price,
        spec=spec.to_json(),
        author=actor.name,
    )


def _announce(
    deployment: Deployment,
    *,
    actor: Actor,
    action: str,
    reason: str,
    message: str,
    changes: dict[str, Any] | None = None,
) -> None:
    record_wish(deployment, actor=actor, reason=reason, message=message)
    audit.record(
        actor=actor, action=f"deployment.{action}", target=deployment.public_id, changes=changes or {}
    )
    ring_on_commit(deployment.public_id)
