"""Answers "may I have this, and what does it cost?" before anything is committed.

Gathers what planning needs from the catalog, the price book, quotas and what clusters last said, lets the
pure modules of `deployments.planning` decide, and keeps the answer as a Plan row that a deployment can be
made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from statistics import median
from typing import Any

from django.utils import timezone

from deployments.clusters.capacity import known_nodes
from deployments.clusters.port import NodeCapacity
from deployments.planning.capacity import PodSize, count_free
from deployments.planning.checks import Check, Who
from deployments.planning.memory import ModelFacts, estimate_serving
from deployments.planning.offers import Ask, Candidate, Offer, rank_offers
from deployments.serving.holdings import held_units, quota_units
from deployments.serving.models import Deployment, Plan, Replica
from deployments.serving.specs import pod_resources, weights_of
from marketplace.accounts.actors import Actor
from marketplace.accounts.models import Organization
from marketplace.billing.models import Price, Quota
from marketplace.billing.money import Quote, quote
from marketplace.billing.prices import price_in_force
from marketplace.catalog.models import ModelVersion, Recipe, TaskChoices
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.hardware.models import AcceleratorFamily, Flavor, NodePool, Region
from marketplace.hardware.placement import open_pools
from runtimes.contract import ServingEnvironment

PLAN_LIFETIME = timedelta(minutes=15)
ALTERNATIVES = 3
STARTS_REMEMBERED = 20
"""Newest starts of a recipe from which the next one's duration is told."""


@dataclass(frozen=True, kw_only=True)
class ServingAsk:
    """What a customer wants to serve. `flavor` and `region` None: wherever it fits best."""

    version: ModelVersion
    flavor: Flavor | None
    region: Region | None
    replicas: int
    context_length: int
    max_concurrency: int

    def to_spec(self) -> dict[str, Any]:
        return {
            "model": self.version.public_id,
            "flavor": self.flavor.slug if self.flavor else None,
            "region": self.region.slug if self.region else None,
            "replicas": self.replicas,
            "context_length": self.context_length,
            "max_concurrency": self.max_concurrency,
        }


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
        replicas=deployment.desired_replicas,
        context_length=environment.context_length,
        max_concurrency=environment.max_concurrency,
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node pool on which a recipe could run, with its price."""

    pool: NodePool
    recipe: Recipe
    price: Price | None


def make_plan(*, actor: Actor, ask: ServingAsk, besides: Deployment | None = None) -> Plan:
    """Plans and stores the answer. `besides` is the deployment that the plan would change, if any."""
    places, matching = _find_places(ask, organization=actor.organization)
    offers = rank_offers(
        Ask(
            replicas=ask.replicas,
            context_length=ask.context_length,
            max_concurrency=ask.max_concurrency,
        ),
        _candidates(ask, places, organization=actor.organization, besides=besides),
    )
    chosen = next((offer for offer in offers if _is_asked(offer, ask)), None)
    checks = (_weights_check(ask.version), matching, *(chosen.checks if chosen else ()))
    place = places.get((chosen.candidate.cluster, chosen.candidate.flavor)) if chosen else None
    accepted = chosen is not None and all(check.passed for check in checks if check.blocking)
    spec = ask.to_spec()
    if chosen:
        spec |= {"flavor": chosen.candidate.flavor, "region": chosen.candidate.region}
    return Plan.objects.create(
        organization=actor.organization,
        spec=spec,
        spec_hash=hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
        accepted=accepted,
        answer={
            "checks": [check.to_json() for check in checks],
            **(_offer_json(chosen, replicas=ask.replicas) if chosen else {}),
            "alternatives": [
                _offer_json(offer, replicas=ask.replicas)
                for offer in offers
                if offer is not chosen and offer.accepted
            ][:ALTERNATIVES],
        },
        recipe=place.recipe if place else None,
        flavor=place.pool.flavor if place else None,
        cluster=place.pool.cluster if place else None,
        price=place.price if place else None,
        created_by=actor.name,
        expires_at=timezone.now() + PLAN_LIFETIME,
    )


def pool_of(plan: Plan) -> NodePool:
    """The node pool that an accepted plan chose. Raises NodePool.DoesNotExist when it takes no more."""
    return (
        open_pools()
        .select_related("flavor__accelerator", "cluster__region")
        .get(cluster=plan.cluster, flavor=plan.flavor)
    )


def _find_places(
    ask: ServingAsk, *, organization: Organization
) -> tuple[dict[tuple[str, str], Place], Check]:
    """Node pools with a recipe for the version, and a check that tells how many each step left."""
    recipes = {
        recipe.accelerator_family: recipe
        for recipe in weights_of(ask.version).recipes.exclude(engine__in=TUNING_ENGINES).order_by("-pk")
    }
    pools = list(open_pools().select_related("flavor__accelerator", "cluster__region"))
    runnable = [pool for pool in pools if pool.flavor.accelerator.family in recipes]
    asked = [
        pool
        for pool in runnable
        if ask.flavor in (None, pool.flavor) and ask.region in (None, pool.cluster.region)
    ]
    now = timezone.now()
    places = {
        (pool.cluster.slug, pool.flavor.slug): Place(
            pool=pool,
            recipe=recipes[AcceleratorFamily(pool.flavor.accelerator.family)],
            price=price_in_force(
                flavor=pool.flavor, region=pool.cluster.region, organization=organization, at=now
            ),
        )
        for pool in runnable
    }
    families = ", ".join(sorted(recipes)) or "none"
    message = (
        f"{len(runnable)} of {len(pools)} node pools have an accelerator that the model has a recipe for "
        f"({families}); {len(asked)} of them match the flavor and region asked."
    )
    check = Check(
        name="placement",
        passed=bool(asked),
        message=message,
        need=1,
        available=len(asked),
        unit="node pools",
        who=None if asked else (Who.CUSTOMER if runnable else Who.PROVIDER),
        remedy="" if asked else _placement_remedy(runnable),
    )
    return places, check


def _placement_remedy(runnable: list[NodePool]) -> str:
    if not runnable:
        return "Ask the provider for a node pool that can run this model."
    names = sorted({f"{pool.flavor.slug} in {pool.cluster.region.slug}" for pool in runnable})
    return f"Take one of: {', '.join(names)}; or leave flavor and region out."


def _is_asked(offer: Offer, ask: ServingAsk) -> bool:
    return (ask.flavor is None or offer.candidate.flavor == ask.flavor.slug) and (
        ask.region is None or offer.candidate.region == ask.region.slug
    )


def _candidates(
    ask: ServingAsk,
    places: dict[tuple[str, str], Place],
    *,
    organization: Organization,
    besides: Deployment | None,
) -> list[Candidate]:
    nodes = {slug: known_nodes(slug) for slug in {place.pool.cluster.slug for place in places.values()}}
    held = {
        family: held_units(organization=organization, family=family, besides=besides)
        for family in {place.pool.flavor.accelerator.family for place in places.values()}
    }
    limits = dict(Quota.objects.filter(organization=organization).values_list("accelerator_family", "limit"))
    return [
        _candidate(ask, place, nodes=nodes[place.pool.cluster.slug], held=held, limits=limits)
        for place in places.values()
    ]


def _candidate(
    ask: ServingAsk,
    place: Place,
    *,
    nodes: list[NodeCapacity] | None,
    held: dict[str, int],
    limits: dict[str, int],
) -> Candidate:
    flavor, pool = place.pool.flavor, place.pool
    family = flavor.accelerator.family
    resources = pod_resources(flavor, pool)
    size = PodSize(
        cpu_millicores=resources.cpu_millicores,
        memory_bytes=resources.memory_bytes,
        devices={resources.accelerator_resource: resources.accelerator_count}
        if resources.accelerator_resource
        else {},
        node_selector=resources.node_selector,
    )
    facts = model_facts(ask.version)
    return Candidate(
        flavor=flavor.slug,
        region=pool.cluster.region.slug,
        cluster=pool.cluster.slug,
        family=family,
        memory_bytes=flavor.model_memory_bytes,
        estimate=estimate_serving(
            facts,
            precision=place.recipe.precision,
            family=family,
            context_length=ask.context_length or facts.context_length,
            concurrency=ask.max_concurrency,
        ),
        min_memory_bytes=place.recipe.min_memory_bytes,
        free=count_free(nodes, size) if nodes is not None else None,
        quota_limit=limits.get(family),
        quota_held=held[family],
        quota_need=quota_units(flavor) * ask.replicas,
        per_second=place.price.per_second if place.price else None,
        currency=place.price.currency if place.price else "",
        start_seconds=start_seconds(place.recipe),
        provisioning_seconds=pool.provisioning_p50_seconds,
        pool_capacity=pool.capacity,
    )


def model_facts(version: ModelVersion) -> ModelFacts:
    """What memory estimates need of a version; an adapter is as large as its base."""
    weights = weights_of(version)
    architecture = weights.architecture
    return ModelFacts(
        parameters=weights.parameters or 0,
        layers=architecture.get("layers") or 0,
        hidden_size=architecture.get("hidden_size") or 0,
        kv_heads=architecture.get("kv_heads") or 0,
        head_size=architecture.get("head_size") or 0,
        vocabulary=architecture.get("vocabulary") or 0,
        context_length=weights.context_length or 0,
        generates=version.model.task == TaskChoices.TEXT_GENERATION,
    )


def start_seconds(recipe: Recipe) -> float | None:
    """How long a start of this recipe takes: the median of its newest starts, else what staff measured."""
    resources = Deployment.objects.filter(recipe=recipe).order_by("-pk").values("public_id")
    starts = Replica.objects.filter(resource__in=resources, ready_at__isnull=False, restarts=0)
    newest = starts.order_by("-created_at").values_list("created_at", "ready_at")[:STARTS_REMEMBERED]
    seconds = [(ready - created).total_seconds() for created, ready in newest if ready is not None]
    return median(seconds) if seconds else recipe.measured_start_seconds


def _weights_check(version: ModelVersion) -> Check:
    missing = [
        str(item) for item in {version, weights_of(version)} if not item.storage_path or not item.published_at
    ]
    return Check(
        name="weights",
        passed=not missing,
        message="The weights are in storage and verified."
        if not missing
        else f"The weights of {', '.join(sorted(missing))} have not been imported.",
        who=Who.PROVIDER if missing else None,
        remedy="Ask the provider's staff to import the model." if missing else "",
    )


def quote_json(price: Quote) -> dict[str, str]:
    """A quote as the REST documents show it: decimals as text, so that no digit is lost."""
    values = asdict(price)
    return {
        key: f"{value.normalize():f}" if isinstance(value, Decimal) else value
        for key, value in values.items()
    }


def _offer_json(offer: Offer, *, replicas: int) -> dict[str, Any]:
    candidate = offer.candidate
    estimate = candidate.estimate
    price = None
    if candidate.per_second is not None:
        price = quote_json(
            quote(per_second=candidate.per_second, currency=candidate.currency, replicas=replicas)
        )
    return {
        "flavor": candidate.flavor,
        "region": candidate.region,
        "price": price,
        "eta_seconds": offer.eta_seconds,
        "memory": {
            **asdict(estimate),
            "expected": estimate.expected,
            "low": estimate.low,
            "high": estimate.high,
            "available": candidate.memory_bytes,
        },
    }
