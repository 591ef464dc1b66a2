"""What a change of a deployment would mean, before it is made: differences, price, room and downtime.

A rolling update and a canary need room for both revisions at once. Where accelerators are scarce there may
never be any, so a preview says how much is needed and how much is free, and what the other strategy costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from deployments.reconcile.rollout import canary_replicas
from deployments.serving.accepting import accept
from deployments.serving.differences import facts_of, facts_of_revision, find_differences
from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment, Plan, Revision, Strategy
from deployments.serving.plans import quote_json
from deployments.serving.revising import Rollback, rolled_back_spec
from deployments.serving.rollouts import RolloutAsk, stable_of
from deployments.serving.specs import GRACE_SECONDS, serving_spec
from marketplace.billing.models import Price
from marketplace.billing.money import quote


@dataclass(frozen=True, kw_only=True)
class Room:
    """Replicas that a rollout needs, beside those that run, and how many more there is room for."""

    strategy: str
    canary_weight: int | None
    old: int
    """Replicas of the old revision while the new one comes up."""
    new: int
    at_once: int
    needed: int
    """More than run now."""
    free: int | None
    """None: the cluster has not said."""

    @property
    def fits(self) -> bool | None:
        return None if self.free is None else self.needed <= self.free


def preview_update(deployment: Deployment, *, plan: Plan, rollout: RolloutAsk) -> dict[str, Any]:
    """What an update as planned would mean; the document of `PreviewSerializer`."""
    current = _revision(deployment, deployment.target_revision)
    facts = facts_of_revision(current)
    after = facts
    try:
        accepted = accept(plan)
    except WishRefused as refusal:
        return _refused(plan, refusal)
    spec = serving_spec(
        resource=deployment.public_id,
        organization=deployment.organization.public_id,
        revision=0,
        name=deployment.name,
        version=accepted.version,
        recipe=accepted.recipe,
        flavor=accepted.pool.flavor,
        pool=accepted.pool,
        context_length=plan.spec["context_length"],
        max_concurrency=plan.spec["max_concurrency"],
    )
    after = facts_of(
        spec.to_json(), version=accepted.version, flavor=accepted.pool.flavor, price=accepted.price
    )
    return _possible(
        deployment,
        plan=plan,
        rollout=rollout,
        before=facts | {"replicas": deployment.desired_replicas},
        after=after | {"replicas": plan.spec["replicas"]},
    )


def preview_rollback(deployment: Deployment, *, rollback: Rollback, rollout: RolloutAsk) -> dict[str, Any]:
    """What going back to an earlier revision would mean; the document of `PreviewSerializer`."""
    current = facts_of_revision(_revision(deployment, deployment.target_revision))
    if rollback.plan is None:
        number = rollback.revision.number
        after = facts_of_revision(rollback.revision)
        return {
            "possible": True,
            "reasons": [],
            "differences": [asdict(item) for item in find_differences(current, after)],
            "price": {
                "now": _quote(deployment.price, deployment.desired_replicas),
                "then": _quote(rollback.revision.price, deployment.desired_replicas),
                "meanwhile": None,
            },
            "rollout": {
                "strategy": Strategy.ROLLING.value,
                "canary_weight": None,
                **dict.fromkeys(("old_replicas", "new_replicas", "replicas_at_once", "needed"), 0),
                "free": None,
                "has_room": True,
                "downtime_seconds": 0.0,
                "message": f"Revision {number} serves already: the update to revision "
                f"{deployment.target_revision} is taken back, and nothing starts anew.",
                "remedy": "",
            },
            "plan": None,
        }
    try:
        accepted = accept(rollback.plan)
    except WishRefused as refusal:
        return _refused(rollback.plan, refusal)
    spec = rolled_back_spec(rollback.revision, number=0, accepted=accepted)
    after = facts_of(
        spec.to_json(), version=accepted.version, flavor=accepted.pool.flavor, price=accepted.price
    )
    return _possible(deployment, plan=rollback.plan, rollout=rollout, before=current, after=after)


def _refused(plan: Plan, refusal: WishRefused) -> dict[str, Any]:
    reasons = [
        {"name": check["name"], "message": check["message"], "remedy": check["remedy"]}
        for check in refusal.extra.get("checks", ())
    ]
    return {
        "possible": False,
        "reasons": reasons or [{"name": refusal.type, "message": refusal.message, "remedy": ""}],
        "differences": [],
        "price": None,
        "rollout": None,
        "plan": plan.public_id,
    }


def _possible(
    deployment: Deployment,
    *,
    plan: Plan,
    rollout: RolloutAsk,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> dict[str, Any]:
    assert plan.price is not None  # it was accepted
    replicas = plan.spec["replicas"]
    differences = find_differences(before, after)
    # A price that was raised since is no reason to start anything anew.
    is_revised = any(item.field not in ("replicas", "price_per_second") for item in differences)
    room = room_for(deployment, plan=plan, rollout=rollout) if is_revised else None
    now = _quote(deployment.price, deployment.desired_replicas)
    then = _quote(plan.price if is_revised else deployment.price, replicas)
    if not is_revised:
        differences = [item for item in differences if item.field == "replicas"]
    meanwhile = None
    if room is not None and room.old and room.new and plan.price.currency == deployment.price.currency:
        both = room.old * deployment.price.per_second + room.new * plan.price.per_second
        meanwhile = quote_json(quote(per_second=both, currency=plan.price.currency))
    return {
        "possible": True,
        "reasons": [],
        "differences": [asdict(item) for item in differences],
        "price": {"now": now, "then": then, "meanwhile": meanwhile},
        "rollout": _rollout_json(deployment, room, plan=plan, rollout=rollout) if room else None,
        "plan": plan.public_id,
    }


def room_for(deployment: Deployment, *, plan: Plan, rollout: RolloutAsk) -> Room:
    """How many replicas the rollout would have at once, and whether there is room."""
    capacity = next((check for check in plan.answer["checks"] if check["name"] == "capacity"), None)
    free = capacity["available"] if capacity else None
    replicas = plan.spec["replicas"]
    running = 0 if stable_of(deployment) is None else deployment.ready_replicas
    strategy = rollout.strategy or Strategy.ROLLING.value
    new = replicas
    if rollout.canary_weight is not None:
        new = canary_replicas(replicas, weight=rollout.canary_weight)
    old, needed = running, new
    if strategy == Strategy.RECREATE:
        old = 0
        # What the old ones hold is free by then, if it is of the same kind.
        needed = max(0, new - running) if plan.flavor_id == deployment.flavor_id else new
    return Room(
        strategy=strategy,
        canary_weight=rollout.canary_weight,
        old=old,
        new=new,
        at_once=old + new,
        needed=needed,
        free=None if free is None else int(free),
    )


def _rollout_json(deployment: Deployment, room: Room, *, plan: Plan, rollout: RolloutAsk) -> dict[str, Any]:
    eta = plan.answer.get("eta_seconds")
    minutes = (rollout.progress_seconds or settings.ROLLOUT_PROGRESS_SECONDS) / 60
    downtime: float | None = 0.0
    remedy = ""
    free = "it is not known how many are free" if room.free is None else f"{room.free} are free"
    if room.strategy == Strategy.RECREATE:
        downtime = None if eta is None else GRACE_SECONDS + eta
        length = (
            "for a time that nobody can tell yet" if downtime is None else f"about {downtime:.0f} seconds"
        )
        message = (
            f"The old revision goes first: nothing answers {length}. Needs room for {room.needed} more "
            f"replica(s); {free}."
        )
    elif room.canary_weight is not None:
        message = (
            f"The canary gets {room.new} replica(s) beside {room.old} of the revision that serves, and "
            f"{room.canary_weight} % of the requests; both are billed until it is promoted or aborted. Needs "
            f"room for {room.needed} more; {free}."
        )
    else:
        message = (
            f"The old revision serves until the new one is ready, so both need room at once: {room.at_once} "
            f"replicas, {room.needed} more than now; {free}."
        )
    if room.fits is False and room.strategy == Strategy.ROLLING:
        message += f" It would wait, and be given up after {minutes:g} minutes without progress."
        if room.canary_weight is None:
            remedy = 'Say "strategy": "recreate" to let the old revision go first, with downtime; or wait.'
    return {
        "strategy": room.strategy,
        "canary_weight": room.canary_weight,
        "old_replicas": room.old,
        "new_replicas": room.new,
        "replicas_at_once": room.at_once,
        "needed": room.needed,
        "free": room.free,
        "has_room": room.fits,
        "downtime_seconds": downtime,
        "message": message,
        "remedy": remedy,
    }


def _revision(deployment: Deployment, number: int) -> Revision:
    return deployment.revisions.select_related("version", "flavor", "price").get(number=number)


def _quote(price: Price, replicas: int) -> dict[str, str]:
    return quote_json(quote(per_second=price.per_second, currency=price.currency, replicas=replicas))
