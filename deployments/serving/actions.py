"""Ways out of a deployment that does not run: found by planning from what there is now, applied as a wish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

from django.db import transaction

from deployments.planning.actions import Action, Situation, Update, find_actions, read_action
from deployments.serving import lifecycle, revising
from deployments.serving.candidates import gather
from deployments.serving.errors import WishRefused
from deployments.serving.events import record_wish
from deployments.serving.explanations import Document, register_actions
from deployments.serving.models import Deployment, DesiredState, Strategy
from deployments.serving.plans import ServingAsk, ask_of, make_plan, quoted
from deployments.serving.rollouts import RolloutAsk, stable_of
from deployments.serving.workload import Workload
from marketplace.accounts.actors import Actor
from marketplace.billing.models import QuotaRequest
from marketplace.hardware.models import Flavor


@register_actions
def actions_of(workload: Workload, explanation: Mapping[str, Any]) -> Sequence[Document]:
    """Ways out of what an explanation tells, as REST documents; jobs have none."""
    if not isinstance(workload, Deployment) or workload.desired_state != DesiredState.RUNNING:
        return ()
    return [_document(action, workload) for action in _find(workload, explanation)]


def apply_action(*, actor: Actor, deployment: Deployment, action: str) -> Deployment:
    """Does exactly what an action says. A change that holds already changes nothing.

    Raises WishRefused when the action does not help any more, with those that do.
    """
    ask = ask_of(deployment)
    if _holds(deployment, ask=ask, action=action):
        return deployment
    explanation = deployment.explanation or {}
    offered = _find(deployment, explanation) if explanation else []
    chosen = next((item for item in offered if item.id == action), None)
    if chosen is None:
        instead = f"These would: {', '.join(item.id for item in offered)}." if offered else ""
        raise WishRefused(
            f"The action {action!r} would not help now. {instead or 'Nothing has to be done.'}",
            type="action-gone",
            field="action",
            actions=[_document(item, deployment) for item in offered],
        )
    if chosen.id == "wait":
        return deployment
    if chosen.id == "pause":
        return lifecycle.pause_deployment(actor=actor, deployment=deployment)
    field, value = read_action(chosen.id)
    if field == "revision":
        return revising.abort_update(actor=actor, deployment=deployment)
    if field == "strategy":
        return lifecycle.update_deployment(
            actor=actor,
            deployment=deployment,
            plan=make_plan(actor=actor, ask=ask, besides=deployment),
            rollout=RolloutAsk(strategy=value),
        )
    if field == "quota":
        return _ask_for_quota(actor=actor, deployment=deployment, limit=int(value))
    plan = make_plan(actor=actor, ask=_changed(ask, chosen.change), besides=deployment)
    return lifecycle.update_deployment(actor=actor, deployment=deployment, plan=plan)


def _find(deployment: Deployment, explanation: Mapping[str, Any]) -> list[Action]:
    ask = ask_of(deployment)
    choice = gather(ask.version, organization=deployment.organization, besides=deployment)
    cluster = deployment.cluster.slug
    return find_actions(
        Situation(
            reason=explanation["reason"],
            retry_helps=explanation["retry_helps"],
            ask=ask.to_planning(),
            ready_replicas=deployment.ready_replicas,
            per_second=deployment.price.per_second,
            candidates=[item for item in choice.candidates if item.cluster == cluster],
            update=_update_of(deployment),
        )
    )


def _update_of(deployment: Deployment) -> Update | None:
    """The update under way, if a revision serves meanwhile."""
    stable = stable_of(deployment)
    if deployment.serving_revision is None or stable is None or stable == deployment.target_revision:
        return None
    revision = deployment.revisions.select_related("price").get(number=stable)
    return Update(
        serving=stable,
        per_second=revision.price.per_second,
        makes_room=deployment.canary_weight is None
        and deployment.strategy == Strategy.ROLLING
        and revision.flavor_id == deployment.flavor_id,
    )


def _holds(deployment: Deployment, *, ask: ServingAsk, action: str) -> bool:
    """Whether what an action changes is wished already."""
    field, value = read_action(action)
    if field == "pause":
        return deployment.desired_state == DesiredState.PAUSED
    if field == "flavor":
        return ask.flavor is not None and ask.flavor.slug == value
    if field in ("replicas", "context_length", "max_concurrency"):
        return str(getattr(ask, field)) == value
    if field == "revision":
        return str(deployment.target_revision) == value
    if field == "strategy":
        return deployment.strategy == value
    if field == "quota" and value.isdecimal():
        family = deployment.flavor.accelerator.family
        return QuotaRequest.open_for(deployment.organization, family=family, limit=int(value[:9])).exists()
    return False


def _changed(ask: ServingAsk, change: Mapping[str, Any]) -> ServingAsk:
    values = dict(change)
    if "flavor" in values:
        values["flavor"] = Flavor.objects.get(slug=values["flavor"])
    return replace(ask, **values)


@transaction.atomic
def _ask_for_quota(*, actor: Actor, deployment: Deployment, limit: int) -> Deployment:
    family = deployment.flavor.accelerator.family
    QuotaRequest.objects.create(
        organization=deployment.organization,
        accelerator_family=family,
        limit=limit,
        reason=f"For {deployment.name} ({deployment.public_id}).",
        requested_by=actor.name,
    )
    record_wish(
        deployment,
        actor=actor,
        reason="QuotaRequested",
        message=f"Asked the provider for a quota of {limit} for {family}.",
    )
    return deployment


def _document(action: Action, deployment: Deployment) -> Document:
    """As `serializers.ActionSerializer` shows it."""
    values = asdict(action)
    replicas = action.change.get("replicas", deployment.desired_replicas)
    changes_price = action.per_hour_after != action.per_hour_before
    per_replica = action.per_hour_after / 3600 / replicas
    return {
        **values,
        "per_hour_before": _digits(action.per_hour_before),
        "per_hour_after": _digits(action.per_hour_after),
        "currency": deployment.price.currency,
        "method": "POST",
        "endpoint": f"/api/v1/deployments/{deployment.public_id}/actions/",
        "body": {"action": action.id},
        "price": quoted(per_second=per_replica, currency=deployment.price.currency, replicas=replicas)
        if changes_price
        else None,
    }


def _digits(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
