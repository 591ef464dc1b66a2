"""What an accepted plan settles, and the revision that is made of it. Part of writing wishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment, Plan, Revision
from deployments.serving.plans import pool_of
from deployments.serving.spec import ServingSpec
from deployments.serving.specs import serving_spec
from marketplace.accounts.actors import Actor
from marketplace.billing.models import Price
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.catalog.removal import keep_model
from marketplace.hardware.models import NodePool


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What an accepted plan settled."""

    plan: Plan
    version: ModelVersion
    recipe: Recipe
    pool: NodePool
    price: Price
    spec: dict[str, Any]


def accept(plan: Plan) -> Accepted:
    """What the plan settled. Raises WishRefused when nothing can be made from it, or not any more."""
    if not plan.accepted or plan.recipe is None or plan.price is None:
        failed = [check for check in plan.answer["checks"] if not check["passed"] and check["blocking"]]
        raise WishRefused(
            _why_not(failed),
            type="plan-not-accepted",
            field="plan",
            checks=failed,
        )
    if plan.expires_at <= timezone.now():
        raise WishRefused(
            "This plan has expired; make a new one.", type="plan-expired", field="plan", plan=plan.public_id
        )
    try:
        pool = pool_of(plan)
    except NodePool.DoesNotExist as error:
        raise WishRefused(
            "What this plan was made for takes no workloads any more; make a new one.",
            type="plan-expired",
            field="plan",
            plan=plan.public_id,
        ) from error
    versions = ModelVersion.objects.select_related("model", "parent")
    return Accepted(
        plan=plan,
        version=versions.get(public_id=plan.spec["model"]),
        recipe=plan.recipe,
        pool=pool,
        price=plan.price,
        spec=plan.spec,
    )


def _why_not(failed: Sequence[Mapping[str, Any]]) -> str:
    """The first check that failed, in words, and how many more there are."""
    if not failed:
        return "This plan was not accepted. Make a new one."
    more = f" {len(failed) - 1} more of its checks failed." if len(failed) > 1 else ""
    return f"This plan was not accepted. {failed[0]['message']} {failed[0]['remedy']}".rstrip() + more


def add_revision(
    deployment: Deployment, *, actor: Actor, accepted: Accepted, spec: ServingSpec | None = None
) -> Revision:
    """The revision that the deployment now aims at: as planned, or with the specification `spec`.

    Raises WishRefused when the model was removed since it was planned.
    """
    if not keep_model(accepted.version.model):
        raise WishRefused(
            f"{accepted.version} was deleted by your organization meanwhile.",
            type="model-deleted",
            field="model",
        )
    spec = spec or serving_spec(
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
        recipe=accepted.recipe,
        plan=accepted.plan,
        spec=spec.to_json(),
        author=actor.name,
    )
