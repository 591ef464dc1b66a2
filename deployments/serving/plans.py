"""Answers "may I have this, and what does it cost?" before anything is committed.

What there is comes from `candidates`; the pure modules of `deployments.planning` decide; the answer is kept
as a Plan row that a deployment can be made from, as long as what it says holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.utils import timezone

from deployments.planning.alternatives import Alternative, find_alternatives, total_per_second
from deployments.planning.checks import Check, Who
from deployments.planning.differences import Difference, Settled, find_differences, settle
from deployments.planning.filters import explain_filters
from deployments.planning.offers import Ask, Offer, is_asked, judge, rank_offers
from deployments.serving.candidates import Choice, gather
from deployments.serving.models import Deployment, Plan
from deployments.serving.specs import weights_of
from marketplace.accounts.actors import Actor
from marketplace.accounts.models import Organization
from marketplace.billing.money import SECONDS_PER_HOUR, Quote, quote
from marketplace.catalog.access import needs_acceptance, obstacle_to_import, terms_url
from marketplace.catalog.models import ModelVersion
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import Flavor, NodePool, Region
from marketplace.hardware.placement import open_pools
from runtimes.contract import ServingEnvironment

PLAN_LIFETIME = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class ServingAsk:
    """What a customer wants to serve. None: whichever fits best."""

    version: ModelVersion
    flavor: Flavor | None
    region: Region | None
    replicas: int
    context_length: int
    max_concurrency: int
    precision: str | None = None
    machine_class: str | None = None
    require_capacity: bool = False

    def to_spec(self) -> dict[str, Any]:
        return {
            "model": self.version.public_id,
            "flavor": self.flavor.slug if self.flavor else None,
            "region": self.region.slug if self.region else None,
            "machine_class": self.machine_class,
            "precision": self.precision,
            "replicas": self.replicas,
            "context_length": self.context_length,
            "max_concurrency": self.max_concurrency,
            "require_capacity": self.require_capacity,
        }

    def to_planning(self) -> Ask:
        """The same in the words of `deployments.planning`."""
        return Ask(**{name: value for name, value in self.to_spec().items() if name != "model"})


WISH = ("model", "flavor", "region", "replicas", "context_length", "max_concurrency")
"""What of a spec a deployment keeps, beside the precision where one was asked for; the rest only says how to
choose."""


def ask_of(deployment: Deployment, *, revision: int | None = None) -> ServingAsk:
    """What is wished of a deployment now, by the revision aimed at: a plan may be deleted, a revision not.

    `revision` is the number of another revision to ask for.
    """
    number = deployment.target_revision if revision is None else revision
    found = deployment.revisions.select_related("version__model", "version__parent__model", "flavor").get(
        number=number
    )
    environment = ServingEnvironment.from_environment(found.spec["environment"])
    return ServingAsk(
        version=found.version,
        flavor=found.flavor,
        region=deployment.cluster.region,
        precision=asked_precision(environment.dtype),
        replicas=deployment.desired_replicas,
        context_length=environment.context_length,
        max_concurrency=environment.max_concurrency,
    )


def changes_of(deployment: Deployment, *, plan: Plan) -> dict[str, list[Any]]:
    """What a plan would change of what is wished now: field -> [before, after]."""
    revision = deployment.revisions.get(number=deployment.target_revision)
    precision = ServingEnvironment.from_environment(revision.spec["environment"]).dtype
    before = ask_of(deployment).to_spec() | {"precision": precision}
    # A precision that nobody asked for is the recipe's, which the provider may change at any time.
    fields = WISH if plan.spec.get("precision") is None else (*WISH, "precision")
    return {field: [before[field], plan.spec[field]] for field in fields if before[field] != plan.spec[field]}


def ask_of_plan(plan: Plan) -> ServingAsk:
    """The ask that a plan answers, with what it chose. Rows that are gone are left to be chosen anew."""
    spec = plan.spec
    versions = ModelVersion.objects.select_related("model__license", "parent__model")
    return ServingAsk(
        version=versions.get(public_id=spec["model"]),
        flavor=Flavor.objects.filter(slug=spec["flavor"]).first(),
        region=Region.objects.filter(slug=spec["region"]).first(),
        replicas=spec["replicas"],
        context_length=spec["context_length"],
        max_concurrency=spec["max_concurrency"],
        precision=spec.get("precision"),
        machine_class=spec.get("machine_class"),
        require_capacity=spec.get("require_capacity", False),
    )


def asked_precision(chosen: str | None) -> str | None:
    """The precision to ask for so as to get what was chosen again: a full one comes unasked everywhere."""
    return chosen if chosen is not None and BYTES_PER_VALUE.get(chosen, 4.0) < 2.0 else None


def make_plan(*, actor: Actor, ask: ServingAsk, besides: Deployment | None = None) -> Plan:
    """Plans and stores the answer. `besides` is the deployment that the plan would change, if any."""
    organization = actor.organization
    wanted = ask.to_planning()
    choice = gather(ask.version, organization=organization, besides=besides)
    offers = rank_offers(wanted, list(choice.candidates))
    chosen = next((offer for offer in offers if is_asked(offer)), None)
    model_checks = checks_of_model(ask.version, organization=organization)
    checks = (*model_checks, _placement(wanted, choice, offers), *(chosen.checks if chosen else ()))
    place = choice.places[chosen.candidate.key] if chosen else None
    spec = ask.to_spec()
    if chosen:
        candidate = chosen.candidate
        spec |= {"flavor": candidate.flavor, "region": candidate.region}
    filters = explain_filters(
        wanted,
        choice.pools,
        offers,
        refused=next((check.message for check in model_checks if check.blocking and not check.passed), ""),
    )
    return Plan.objects.create(
        organization=organization,
        spec=spec,
        spec_hash=hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
        accepted=chosen is not None and all(check.passed for check in checks if check.blocking),
        answer={
            "checks": [check.to_json() for check in checks],
            "filters": [item.to_json() for item in filters],
            **(_offer_json(chosen) if chosen else {}),
            "alternatives": [
                _alternative_json(item, chosen=chosen) for item in find_alternatives(wanted, offers, chosen)
            ],
            "settled": settle(chosen, image=place.recipe.image).to_json() if chosen and place else None,
        },
        recipe=place.recipe if place else None,
        flavor_id=place.pool.flavor.pk if place else None,
        cluster_id=place.pool.cluster_pk if place else None,
        price_id=place.price.pk if place and place.price else None,
        created_by=actor.name,
        expires_at=timezone.now() + PLAN_LIFETIME,
    )


def what_changed(plan: Plan) -> list[Difference]:
    """What of an accepted plan no longer holds, from what there is now."""
    if plan.recipe is None or plan.flavor is None or plan.cluster is None or not plan.answer.get("settled"):
        return []
    ask = ask_of_plan(plan)
    choice = gather(ask.version, organization=plan.organization)
    key = (plan.cluster.slug, plan.flavor.slug, plan.recipe.public_id)
    place = choice.places.get(key)
    candidate = next((item for item in choice.candidates if item.key == key), None)
    return find_differences(
        Settled.from_json(plan.answer["settled"]),
        judge(ask.to_planning(), candidate) if candidate else None,
        image=place.recipe.image if place else "",
        model_checks=checks_of_model(ask.version, organization=plan.organization),
    )


def pool_of(plan: Plan) -> NodePool:
    """The node pool that an accepted plan chose. Raises NodePool.DoesNotExist when it takes no more."""
    return (
        open_pools()
        .select_related("flavor__accelerator", "cluster__region")
        .get(cluster=plan.cluster_id, flavor=plan.flavor_id)
    )


def checks_of_model(version: ModelVersion, *, organization: Organization) -> tuple[Check, ...]:
    """Whether the model itself may be deployed: its files are here, and its terms are accepted."""
    return (_weights(version), *_terms(version, organization=organization))


def _weights(version: ModelVersion) -> Check:
    missing = [
        item for item in {version, weights_of(version)} if not item.storage_path or not item.published_at
    ]
    if version.model.deleted_at is not None:
        return Check(
            name="weights",
            passed=False,
            message=f"{version} was deleted by your organization on {version.model.deleted_at:%Y-%m-%d}.",
            who=Who.CUSTOMER,
            remedy="Take another model or revision, or tune it again.",
        )
    if not missing:
        return Check(
            name="weights", passed=True, message="The weights are in storage and verified: no hub is needed."
        )
    names = ", ".join(sorted(map(str, missing)))
    obstacle = obstacle_to_import(missing[0].model)
    return Check(
        name="weights",
        passed=False,
        message=f"The weights of {names} are not in storage. {obstacle.message}",
        who=Who.PROVIDER,
        remedy=obstacle.remedy,
    )


def _terms(version: ModelVersion, *, organization: Organization) -> Iterable[Check]:
    """The license: of the model itself, and of what it was tuned from."""
    for model in {item.model for item in (version, weights_of(version))}:
        license = model.license
        where = f" at {terms_url(model)}" if terms_url(model) else ""
        if needs_acceptance(model, organization=organization):
            yield Check(
                name="license",
                passed=False,
                message=f"{model.name} is gated, and your organization has not accepted its terms: "
                f"{license.name}.",
                who=Who.CUSTOMER,
                remedy=f"Read the terms{where}, then accept them: "
                f"POST /api/v1/models/{model.public_id}/accept-terms/.",
            )
        elif not license.commercial_use:
            yield Check(
                name="license",
                passed=False,
                message=f"{license.name} of {model.name} does not allow commercial use.",
                who=Who.CUSTOMER,
                remedy=f"Read it{where} before you go on, or take a model with another license.",
                blocking=False,
            )


def _placement(ask: Ask, choice: Choice, offers: Iterable[Offer]) -> Check:
    offers = list(offers)
    asked = {(item.candidate.cluster, item.candidate.flavor) for item in offers if is_asked(item)}
    runnable = {(item.candidate.cluster, item.candidate.flavor) for item in offers}
    families = ", ".join(choice.families) or "none"
    problem = next(
        (pool.unusable for pool in choice.pools if pool.unusable and pool.flavor == ask.flavor), ""
    )
    return Check(
        name="placement",
        passed=bool(asked),
        message=f"{len(runnable)} of {len(choice.pools)} node pools have an accelerator that the model has a "
        f"recipe for ({families}); {len(asked)} of them match what is asked."
        + (f" {ask.flavor} cannot be had: {problem}" if problem else ""),
        need=1,
        available=len(asked),
        unit="node pools",
        who=None if asked else (Who.CUSTOMER if runnable else Who.PROVIDER),
        remedy="" if asked else _placement_remedy(offers),
    )


def _placement_remedy(offers: list[Offer]) -> str:
    if not offers:
        return "Ask the provider for a node pool that can run this model."
    names = sorted(
        {
            f"{item.candidate.flavor} in {item.candidate.region} ({item.candidate.shape.precision})"
            for item in offers
        }
    )
    return f"Take one of: {', '.join(names[:20])}; or leave flavor, region, class and precision out."


def quote_json(price: Quote) -> dict[str, str]:
    """A quote as the REST documents show it: decimals as text, so that no digit is lost."""
    values = asdict(price)
    return {
        key: f"{value.normalize():f}" if isinstance(value, Decimal) else value
        for key, value in values.items()
    }


@lru_cache(maxsize=1024)
def quoted(*, per_second: Decimal, currency: str, replicas: int) -> dict[str, str]:
    """The quote of so many replicas, to be shown and not changed: a page says the same few prices again."""
    return quote_json(quote(per_second=per_second, currency=currency, replicas=replicas))


def _offer_json(offer: Offer) -> dict[str, Any]:
    candidate, estimate = offer.candidate, offer.estimate
    price = None
    if candidate.per_second is not None:
        price = quoted(
            per_second=candidate.per_second, currency=candidate.currency, replicas=offer.ask.replicas
        )
    return {
        "flavor": candidate.flavor,
        "region": candidate.region,
        "machine_class": candidate.machine_class,
        "precision": candidate.shape.precision,
        "price": price,
        "free_now": candidate.free.pods if candidate.free else None,
        "eta_seconds": offer.eta_seconds,
        "eta": offer.eta.to_json(),
        "memory": {
            **asdict(estimate),
            "expected": estimate.expected,
            "low": estimate.low,
            "high": estimate.high,
            "high_per_device": estimate.high_per_device,
            "available": candidate.memory_bytes,
            "available_per_device": candidate.device_bytes,
        },
    }


def _alternative_json(alternative: Alternative, *, chosen: Offer | None) -> dict[str, Any]:
    before = total_per_second(chosen) if chosen else None
    after = total_per_second(alternative.offer)
    difference = None if before is None or after is None else (after - before) * SECONDS_PER_HOUR
    return {
        **_offer_json(alternative.offer),
        "title": alternative.title,
        "kind": alternative.kind,
        "changes": {name: {"from": old, "to": new} for name, (old, new) in alternative.changes.items()},
        "has_room": alternative.offer.has_room,
        "per_hour_difference": None if difference is None else f"{difference.normalize():f}",
    }
