"""Gathers everything that planning decides about: where a version could run, at what price, in what room.

The number of queries does not depend on how many pools, recipes, prices or deployments there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from deployments.clusters.capacity import known_nodes_of
from deployments.clusters.port import NodeCapacity
from deployments.planning.capacity import FreeCapacity, NodeIndex, PodSize
from deployments.planning.filters import Pool
from deployments.planning.memory import ModelFacts, ServingShape, spread
from deployments.planning.offers import Candidate
from deployments.planning.starting import SeenStart, StartTimes, learn
from deployments.serving.facts import model_facts
from deployments.serving.holdings import held_units, quota_units
from deployments.serving.models import Deployment, Replica
from deployments.serving.pools import OpenPool, PoolFlavor, every_open_pool
from deployments.serving.specs import pod_resources, weights_of
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from marketplace.billing.prices import PriceTag, price_tags
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.hardware.attachments import Attachment, count_problem
from marketplace.hardware.models import AcceleratorFamily
from marketplace.statements import Given, Statement

DEPLOYMENTS_REMEMBERED = 60
"""Newest deployments of a version's recipes from whose starts the next one's duration is told."""
STARTS_REMEMBERED = 20
"""Newest starts of one recipe that count."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node pool on which a recipe could run, with its price."""

    pool: OpenPool
    recipe: Recipe
    price: PriceTag | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """All that there is to choose from for one version."""

    pools: tuple[Pool, ...]
    """Every pool that takes workloads, also those without a recipe."""
    places: Mapping[tuple[str, str, str], Place]
    """By `Candidate.key`."""
    candidates: tuple[Candidate, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """Accelerator families that the version has recipes for and that somebody offers."""
        return tuple(sorted({candidate.shape.family for candidate in self.candidates}))


def gather(version: ModelVersion, *, organization: Organization, besides: Deployment | None = None) -> Choice:
    """What there is for an organization now. `besides` is the deployment that would change, if any."""
    weights = weights_of(version)
    recipes: defaultdict[str, list[Recipe]] = defaultdict(list)
    for recipe in _recipes.objects(version=weights.pk):
        recipes[recipe.accelerator_family].append(recipe)
    pools = every_open_pool()
    tags = price_tags(organization=organization, at=timezone.now())
    places = [
        Place(pool=pool, recipe=recipe, price=tags.get((pool.flavor.pk, pool.region_pk)))
        for pool in pools
        if not _problem(pool)
        for recipe in recipes[pool.flavor.accelerator.family]
    ]
    used = {place.recipe.pk: place.recipe for place in places}.values()
    starts = _starts(weights) if used else {}
    facts = model_facts(version)
    world = _World(
        nodes={
            slug: None if nodes is None else _index(nodes)
            for slug, nodes in known_nodes_of({pool.cluster for pool in pools}).items()
        },
        held=held_units(organization=organization, besides=besides),
        limits=dict(_limits.rows(organization=organization.pk)),
        times={
            recipe.pk: learn(
                starts.get(recipe.pk, ())[:STARTS_REMEMBERED], measured=recipe.measured_start_seconds
            )
            for recipe in used
        },
        nodes_of={
            recipe.pk: frozenset(start.node for start in starts.get(recipe.pk, ()) if start.node)
            for recipe in used
        },
        free={},
    )
    candidates = [_candidate(place, facts=facts, world=world) for place in places]
    return Choice(
        pools=tuple(_pool(pool) for pool in pools),
        places={candidate.key: place for candidate, place in zip(candidates, places, strict=True)},
        candidates=tuple(candidates),
    )


@dataclass(frozen=True)
class _World:
    """What all candidates are judged by."""

    nodes: Mapping[str, NodeIndex | None]
    held: Mapping[str, int]
    limits: Mapping[str, int]
    times: Mapping[int, StartTimes]
    """By recipe."""
    nodes_of: Mapping[int, frozenset[str]]
    """Recipe -> nodes on which it has started."""
    free: dict[int, FreeCapacity | None]
    """By pool: recipes share it."""

    def room(self, pool: OpenPool) -> FreeCapacity | None:
        if pool.pk not in self.free:
            nodes = self.nodes[pool.cluster]
            self.free[pool.pk] = None if nodes is None else nodes.count(pod_size(pool))
        return self.free[pool.pk]


def _candidate(place: Place, *, facts: ModelFacts, world: _World) -> Candidate:
    flavor, pool, recipe = place.pool.flavor, place.pool, place.recipe
    family = flavor.accelerator.family
    devices = max(1, flavor.accelerator_count)
    return Candidate(
        flavor=flavor.slug,
        region=pool.region,
        cluster=pool.cluster,
        machine_class=flavor.machine_class,
        recipe=recipe.public_id,
        shape=ServingShape(
            facts=facts,
            precision=recipe.precision,
            family=family,
            devices=spread(facts, devices=devices) if recipe.tensor_parallel else 1,
        ),
        device_bytes=device_bytes(flavor),
        devices=devices,
        usual_context=facts.context_length,
        min_memory_bytes=recipe.min_memory_bytes,
        free=world.room(pool),
        quota_limit=world.limits.get(family),
        quota_held=world.held.get(family, 0),
        quota_per_replica=quota_units(flavor),
        per_second=place.price.per_second if place.price else None,
        currency=place.price.currency if place.price else "",
        start=world.times[recipe.pk],
        provisioning_seconds=pool.provisioning_p50_seconds,
        pool_capacity=pool.capacity,
        cached_nodes=world.nodes_of[recipe.pk],
    )


def _index(nodes: tuple[NodeCapacity, ...]) -> NodeIndex:
    """The index of nodes, made once for as long as they stay the same."""
    known = _indexes.get(id(nodes))
    if known is None or known.nodes is not nodes:
        if len(_indexes) > MOST_INDEXES:
            _indexes.clear()
        known = _indexes[id(nodes)] = NodeIndex(nodes)
    return known


_indexes: dict[int, NodeIndex] = {}
MOST_INDEXES = 64


def device_bytes(flavor: PoolFlavor) -> int:
    """Memory of one device of a flavor; on CPU the host's."""
    if flavor.accelerator.family == AcceleratorFamily.CPU:
        return flavor.memory_bytes
    return flavor.accelerator.memory_bytes


def pod_size(pool: OpenPool) -> PodSize:
    """What a pod of the pool's flavor asks of a node."""
    resources = pod_resources(pool.flavor, pool)
    # Partitions of IPUs are made for a job by their operator: no node has them beforehand.
    counted = resources.accelerator_resource and resources.attachment == Attachment.DEVICE_PLUGIN
    devices = {resources.accelerator_resource: resources.accelerator_count} if counted else {}
    return PodSize(
        cpu_millicores=resources.cpu_millicores,
        memory_bytes=resources.memory_bytes,
        devices=devices,
        node_selector=resources.node_selector,
        tolerations=resources.tolerations,
    )


def _pool(pool: OpenPool) -> Pool:
    return Pool(
        cluster=pool.cluster,
        flavor=pool.flavor.slug,
        region=pool.region,
        family=pool.flavor.accelerator.family,
        machine_class=pool.flavor.machine_class,
        unusable=_problem(pool),
    )


def _problem(pool: OpenPool) -> str:
    """Why the flavor of a pool can be given to nobody; empty when it can."""
    flavor = pool.flavor
    return count_problem(flavor.accelerator.attachment, flavor.accelerator_count) or ""


def _starts(weights: ModelVersion) -> dict[int, tuple[SeenStart, ...]]:
    """Recipe -> its newest starts, whoever's they were: how long a start takes is nobody's secret."""
    found: defaultdict[int, list[SeenStart]] = defaultdict(list)
    for recipe, *moments, node in _newest_starts.rows(version=weights.pk):
        found[recipe].append(SeenStart(**dict(zip(_MOMENTS, moments, strict=True)), node=node))
    return {recipe: tuple(starts) for recipe, starts in found.items()}


def _started() -> QuerySet[Replica, Any]:
    own = Deployment.objects.filter(recipe__version=Given("version"))
    newest = own.order_by("-pk").values("public_id")[:DEPLOYMENTS_REMEMBERED]
    # Subqueries, because replicas outlive their deployments and so have no key to them.
    recipe = Deployment.objects.filter(public_id=OuterRef("resource")).values("recipe")
    started = Replica.objects.filter(resource__in=newest, ready_at__isnull=False, restarts=0)
    columns = (Subquery(recipe), *_MOMENTS, "node")
    return started.order_by("-created_at").values_list(*columns)[:DEPLOYMENTS_REMEMBERED]


_MOMENTS = ("created_at", "scheduled_at", "started_at", "ready_at")
_recipes = Statement(
    lambda: Recipe.objects.filter(version=Given("version")).exclude(engine__in=TUNING_ENGINES).order_by("pk")
)
_limits = Statement(
    lambda: Quota.objects.filter(organization=Given("organization")).values_list(
        "accelerator_family", "limit"
    )
)
_newest_starts = Statement(_started)
