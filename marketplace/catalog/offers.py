"""Which models can be deployed here and now, and what they cost at least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.billing.prices import prices_in_force
from marketplace.catalog.models import Model, ModelVersion, Recipe
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.placement import open_pools

TUNING_ENGINES = ("tune-lora",)
"""Engines that train; a price to serve does not count them."""


def visible_models(organization: Organization) -> QuerySet[Model]:
    """The listed public models and the organization's own."""
    return Model.objects.filter(Q(owner=None, listed=True) | Q(owner=organization), deleted_at__isnull=True)


def with_runnable(models: QuerySet[Model]) -> QuerySet[Model]:
    """Adds `runnable`: whether weights are in storage, and a cluster has what a recipe asks for."""
    recipe = Recipe.objects.filter(
        Exists(open_pools().filter(flavor__accelerator__family=OuterRef("accelerator_family")))
    )
    version = ModelVersion.objects.filter(
        # An adapter runs by the recipes of what it was tuned from.
        Exists(recipe.filter(version=OuterRef("pk"))) | Exists(recipe.filter(version=OuterRef("parent"))),
        model=OuterRef("pk"),
        published_at__isnull=False,
    )
    return models.annotate(runnable=Exists(version))


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One flavor that takes workloads in one region, at a price."""

    family: str
    memory_bytes: int
    """Of all its accelerators; of the host for a CPU."""
    price: Price


def offers_for(organization: Organization, *, at: datetime) -> list[Offer]:
    """Every flavor and region that takes workloads and has a price, cheapest first."""
    pools = open_pools().select_related("flavor__accelerator", "cluster")
    prices = {(p.flavor_id, p.region_id): p for p in prices_in_force(organization=organization, at=at)}
    offers = []
    for pool in pools:
        price = prices.get((pool.flavor_id, pool.cluster.region_id))
        if price is not None:
            flavor = pool.flavor
            memory = flavor.model_memory_bytes
            offers.append(Offer(family=flavor.accelerator.family, memory_bytes=memory, price=price))
    return sorted(offers, key=lambda offer: offer.price.per_second)


def cheapest(recipes: Iterable[Recipe], *, parameters: int, offers: Sequence[Offer]) -> Offer | None:
    """The cheapest offer that holds the weights by one of the recipes. A plan says whether more fits."""
    needs = [
        (
            recipe.accelerator_family,
            max(recipe.min_memory_bytes, parameters * BYTES_PER_VALUE.get(recipe.precision, 4.0)),
        )
        for recipe in recipes
        if recipe.engine not in TUNING_ENGINES
    ]
    for offer in offers:
        if any(family == offer.family and size <= offer.memory_bytes for family, size in needs):
            return offer
    return None
