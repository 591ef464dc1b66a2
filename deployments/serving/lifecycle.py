"""The one writer of what customers wish of deployments.

Every function writes wish columns, bumps `generation`, records an event and an audit entry, and rings the
reconciler, all in one transaction (`wishing`). None of them touches a cluster: `deployments.reconcile` makes
it so. Going back to an earlier revision, and what becomes of a canary, are in `revising`.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments.serving.accepting import accept, add_revision
from deployments.serving.deletions import request_deletion
from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment, DesiredState, Plan
from deployments.serving.plans import changes_of
from deployments.serving.rollouts import RolloutAsk, aim_at, change_rollout
from deployments.serving.wishing import announce, next_number, require_room, require_unchanged, wishing
from marketplace.accounts.actors import Actor

AS_USUAL = RolloutAsk()


def create_deployment(*, actor: Actor, plan: Plan, name: str) -> Deployment:
    """Wishes for a deployment as planned. Raises WishRefused when the plan or the name cannot be used."""
    accepted = accept(plan)
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
            require_room(deployment)
            add_revision(deployment, actor=actor, accepted=accepted)
            announce(
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


def update_deployment(
    *, actor: Actor, deployment: Deployment, plan: Plan, rollout: RolloutAsk = AS_USUAL
) -> Deployment:
    """Wishes for what the plan says instead: a new revision, or only another number of replicas.

    `rollout` says how the new revision takes the old one's place. The plan was made from `deployment` as the
    caller read it. Raises WishRefused when it was changed since: the plan would undo that change.
    """
    accepted = accept(plan)
    with wishing(deployment) as row:
        require_unchanged(row, since=deployment)
        if accepted.pool.cluster != row.cluster:
            raise WishRefused(
                f"This deployment runs in {row.cluster.region}; it cannot move to {accepted.spec['region']}. "
                "Create another deployment there.",
                type="region-fixed",
                field="region",
            )
        changes = changes_of(row, plan=plan)
        is_revised = bool(changes.keys() - {"replicas"})
        if changes:
            row.plan = plan
            row.desired_replicas = plan.spec["replicas"]
        if is_revised:
            row.recipe, row.flavor, row.price = accepted.recipe, accepted.pool.flavor, accepted.price
            aim_at(row, number=next_number(row), rollout=rollout)
            add_revision(row, actor=actor, accepted=accepted)
        else:
            changes |= change_rollout(row, rollout=rollout)
        if not changes:
            return row
        if row.desired_state == DesiredState.RUNNING:
            require_room(row)
        announce(
            row,
            actor=actor,
            action="update",
            reason="Changed",
            message="Asked to change "
            + ", ".join(f"{key} to {new}" for key, (_, new) in changes.items())
            + (f", {rollout.in_words()}." if is_revised else "."),
            changes=changes,
        )
    return row


def pause_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for no replicas until resumed. Nothing after this moment is billed."""
    with wishing(deployment) as row:
        if row.desired_state == DesiredState.PAUSED:
            return row
        row.desired_state = DesiredState.PAUSED
        row.stop_requested_at = timezone.now()
        announce(row, actor=actor, action="pause", reason="PauseRequested", message="Asked to pause.")
    return row


def resume_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for replicas again."""
    with wishing(deployment) as row:
        if row.desired_state == DesiredState.RUNNING:
            return row
        require_room(row)  # a paused deployment gave its share back
        row.desired_state = DesiredState.RUNNING
        row.pauses = row.pauses_until(timezone.now())
        row.stop_requested_at = None
        announce(row, actor=actor, action="resume", reason="ResumeRequested", message="Asked to resume.")
    return row


def delete_deployment(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for nothing to be left. Billing ends now; the row says `deleted` once nothing is observed."""
    with wishing(deployment, deleted_too=True) as row:
        if row.desired_state == DesiredState.DELETED:
            return row
        row.desired_state = DesiredState.DELETED
        now = timezone.now()
        row.stop_requested_at = row.stop_requested_at or now
        request_deletion(row, actor=actor.name, at=now)
        announce(row, actor=actor, action="delete", reason="DeleteRequested", message="Asked to delete.")
    return row
