"""Wishes about revisions that are there already: roll back to one, promote a canary, take an update back.

Like `lifecycle`, and as strictly: everything is written through `wishing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from deployments.serving.accepting import Accepted, accept, add_revision
from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment, DesiredState, Plan, Revision
from deployments.serving.plans import ask_of, make_plan
from deployments.serving.rollouts import RolloutAsk, aim_at, end_canary, stable_of
from deployments.serving.spec import ServingSpec
from deployments.serving.specs import pod_resources
from deployments.serving.wishing import announce, next_number, require_room, require_unchanged, wishing
from marketplace.accounts.actors import Actor


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What going back to an earlier revision would take."""

    revision: Revision
    """The one to go back to."""
    plan: Plan | None
    """Whether and for how much it can run today. None: it serves already, so the update under way is taken
    back, and nothing starts anew."""


def plan_rollback(*, actor: Actor, deployment: Deployment, number: int) -> Rollback:
    """Looks whether a revision can run again. Raises WishRefused when there is nothing to go back to."""
    revisions = deployment.revisions.select_related("version", "flavor", "price")
    revision = revisions.filter(number=number).first()
    if revision is None:
        raise WishRefused(
            f"There is no revision {number}. GET …/revisions/ lists those there are.",
            type="revision-unknown",
            field="revision",
        )
    if number == stable_of(deployment) != deployment.target_revision:
        return Rollback(revision=revision, plan=None)
    if number == deployment.target_revision and revision.failed_at is None:
        raise WishRefused(
            f"Revision {number} is what the deployment runs, or aims at, already.",
            type="revision-current",
            field="revision",
        )
    ask = ask_of(deployment, revision=number)
    return Rollback(revision=revision, plan=make_plan(actor=actor, ask=ask, besides=deployment))


def roll_back(*, actor: Actor, deployment: Deployment, rollback: Rollback, rollout: RolloutAsk) -> Deployment:
    """Wishes for an earlier specification, as a revision with a new number and at today's price.

    Raises WishRefused when it cannot run any more: the checks of its plan say why.
    """
    if rollback.plan is None:
        return abort_update(actor=actor, deployment=deployment)
    accepted = accept(rollback.plan)
    number = rollback.revision.number
    with wishing(deployment) as row:
        require_unchanged(row, since=deployment)
        before = row.target_revision
        row.plan, row.recipe = accepted.plan, accepted.recipe
        row.flavor, row.price = accepted.pool.flavor, accepted.price
        aim_at(row, number=next_number(row), rollout=rollout)
        spec = rolled_back_spec(rollback.revision, number=row.target_revision, accepted=accepted)
        add_revision(row, actor=actor, accepted=accepted, spec=spec)
        if row.desired_state == DesiredState.RUNNING:
            require_room(row)
        announce(
            row,
            actor=actor,
            action="rollback",
            reason="RollbackRequested",
            message=f"Asked to go back to revision {number}, {rollout.in_words()}: it is revision "
            f"{row.target_revision} now.",
            changes={"target_revision": [before, row.target_revision], "copied_from": [None, number]},
        )
    return row


def rolled_back_spec(revision: Revision, *, number: int, accepted: Accepted) -> ServingSpec:
    """The old specification under a new number. Where it may land is today's: labels of nodes change."""
    return replace(
        ServingSpec.from_json(revision.spec),
        revision=number,
        resources=pod_resources(accepted.pool.flavor, accepted.pool),
    )


def promote_canary(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Wishes for the canary to take over: it gets all replicas, and then the stable revision goes."""
    with wishing(deployment) as row:
        if row.canary_weight is None:
            raise WishRefused("There is no canary to promote.", type="no-canary")
        canary = row.revisions.get(number=row.target_revision)
        if canary.failed_at is not None:
            raise WishRefused(
                f"The canary was given up: {canary.failure['message']} Abort it, or send a better one.",
                type="canary-failed",
            )
        weight = row.canary_weight
        end_canary(row)
        if row.desired_state == DesiredState.RUNNING:
            require_room(row)
        announce(
            row,
            actor=actor,
            action="promote",
            reason="PromoteRequested",
            message=f"Asked to promote the canary, revision {row.target_revision}.",
            changes={"canary_weight": [weight, None]},
        )
    return row


def abort_update(*, actor: Actor, deployment: Deployment) -> Deployment:
    """Takes an update back, a canary or any other: the revision that serves is the one aimed at again."""
    with wishing(deployment) as row:
        stable = stable_of(row)
        if stable is None or stable == row.target_revision:
            raise WishRefused("No update is under way that could be taken back.", type="no-update")
        revision = row.revisions.select_related("flavor", "price", "recipe", "plan").get(number=stable)
        given_up = row.target_revision
        row.target_revision = stable
        row.flavor, row.price = revision.flavor, revision.price
        row.recipe, row.plan = revision.recipe or row.recipe, revision.plan
        end_canary(row)
        if row.desired_state == DesiredState.RUNNING:
            require_room(row)
        announce(
            row,
            actor=actor,
            action="abort",
            reason="AbortRequested",
            message=f"Asked to take revision {given_up} back: revision {stable} stays.",
            changes={"target_revision": [given_up, stable]},
        )
    return row
