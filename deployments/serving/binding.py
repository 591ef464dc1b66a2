"""Binds a deployment to its plan: what was planned, at its price, or a refusal with the differences.

A refusal names the plan, so that the caller can plan the same again and show what would be accepted now.
"""

from __future__ import annotations

from django.utils import timezone

from deployments.planning.differences import Difference
from deployments.serving.errors import WishRefused
from deployments.serving.models import Plan
from deployments.serving.plans import ask_of_plan, make_plan, what_changed
from marketplace.accounts.actors import Actor

OUTDATED = ("plan-expired", "plan-outdated")
"""Types of refusals after which the same ask can be planned anew."""


def require_current(plan: Plan) -> None:
    """Raises WishRefused when an accepted plan has expired, or when what it says no longer holds."""
    if not plan.accepted:
        return  # refused for what its checks say
    differences = what_changed(plan)
    if plan.expires_at <= timezone.now():
        ended = plan.expires_at.isoformat(timespec="seconds")
        changed = _sentence(differences) or "Nothing that it says has changed."
        raise _refusal(
            plan,
            f"This plan expired at {ended}. {changed} Accept the new plan instead.",
            type="plan-expired",
            differences=differences,
        )
    if differences:
        raise _refusal(
            plan,
            f"What this plan says no longer holds. {_sentence(differences)} Accept the new plan instead.",
            type="plan-outdated",
            differences=differences,
        )


def plan_again(public_id: str, *, actor: Actor) -> Plan:
    """The same ask, planned now."""
    outdated = Plan.objects.get(organization=actor.organization, public_id=public_id)
    return make_plan(actor=actor, ask=ask_of_plan(outdated))


def _refusal(plan: Plan, message: str, *, type: str, differences: list[Difference]) -> WishRefused:
    return WishRefused(
        message,
        type=type,
        field="plan",
        plan=plan.public_id,
        differences=[difference.to_json() for difference in differences],
    )


def _sentence(differences: list[Difference]) -> str:
    return " ".join(
        f"{item.field.capitalize()}: {item.planned} when planned, {item.now} now. {item.message}"
        for item in differences
    )
