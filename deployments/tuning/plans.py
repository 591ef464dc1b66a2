"""Answers what a fine-tuning job would take, before it is wished for: place, memory, time and cost.

Everything that can refuse a job is asked here, so that nothing is billed for a job that cannot work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from deployments.planning.checks import gib
from deployments.planning.memory import FRAMEWORK_BYTES
from deployments.serving.errors import WishRefused
from deployments.serving.holdings import require_quota
from deployments.tuning.estimates import (
    CPU_OPERATIONS_PER_SECOND_AND_CORE,
    UTILIZATION,
    Estimate,
    Load,
    Speed,
    estimate_tuning,
)
from deployments.tuning.models import DatasetVersion, FineTuningJob, JobState, TrainingEvent
from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.billing.prices import price_in_force
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import AcceleratorFamily, Flavor, NodePool, Region
from marketplace.hardware.placement import open_pools
from runtimes.contract import TUNING_ROW_TOKENS, TrainingEventType

TRAINED_STATE_BYTES = 16
"""Per trained parameter: weight, gradient and two moments of AdamW in float32."""
LINEAR_MATRICES = 7
"""Of a decoder layer: q, k, v, o, gate, up and down, each of which gets two factors of rank r."""
RUNS_REMEMBERED = 10


@dataclass(frozen=True, kw_only=True)
class TuningAsk:
    """What a customer wants to tune. `flavor` and `region` None: the cheapest that fits."""

    name: str
    base: ModelVersion
    training_data: DatasetVersion
    validation_data: DatasetVersion | None
    hyperparameters: dict[str, Any]
    flavor: Flavor | None
    region: Region | None


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """Where the job would run, by which recipe, for how long and for how much."""

    ask: TuningAsk
    pool: NodePool
    recipe: Recipe
    price: Price
    memory_bytes: int
    """That the run needs."""
    estimate: Estimate

    @property
    def available_bytes(self) -> int:
        """Memory that the run may use: of the accelerators together, or of the host on CPU."""
        return self.pool.flavor.model_memory_bytes


def plan_tuning(ask: TuningAsk, *, organization: Organization) -> TuningPlan:
    """The cheapest place that fits. Raises WishRefused naming the field that stands in the way."""
    _check_base(ask)
    recipes = {
        recipe.accelerator_family: recipe for recipe in ask.base.recipes.filter(engine__in=TUNING_ENGINES)
    }
    places = _places(ask, recipes)
    now = timezone.now()
    plans = [
        plan for pool in places if (plan := _plan(ask, pool, recipes, organization=organization, at=now))
    ]
    if not plans:
        raise WishRefused(
            "No flavor asked for has a price today. Take another, or ask the provider.",
            type="not-sold",
            field="flavor",
        )
    fitting = [plan for plan in plans if plan.memory_bytes <= plan.available_bytes]
    if not fitting:
        largest = max(plans, key=lambda plan: plan.available_bytes)
        raise WishRefused(
            f"Tuning {ask.base.model.name} needs about {gib(largest.memory_bytes)}; "
            f"{largest.pool.flavor.slug} has {gib(largest.available_bytes)}. "
            "Take a larger flavor, or a smaller max_length, batch_tokens or lora_rank.",
            type="does-not-fit",
            field="flavor",
            need=largest.memory_bytes,
            available=largest.available_bytes,
        )
    plan = min(fitting, key=lambda plan: plan.estimate.cost)
    require_quota(organization=organization, wanted=[(plan.pool.flavor, 1)])
    return plan


def _check_base(ask: TuningAsk) -> None:
    if ask.base.is_adapter:
        raise WishRefused(
            f"{ask.base.model} is itself tuned; tune the model that it was made from: {ask.base.parent}.",
            type="base-is-tuned",
            field="model",
        )
    if not ask.base.storage_path:
        raise WishRefused(
            f"The weights of {ask.base.model} have not been imported. Ask the provider's staff.",
            type="weights-missing",
            field="model",
        )


def _places(ask: TuningAsk, recipes: dict[str, Recipe]) -> list[NodePool]:
    pools = open_pools().select_related("flavor__accelerator", "cluster__region")
    runnable = [pool for pool in pools if pool.flavor.accelerator.family in recipes]
    if not runnable:
        raise WishRefused(
            f"{ask.base.model.name} cannot be fine-tuned on any hardware that is on offer.",
            type="not-tunable",
            field="model",
        )
    asked = [
        pool
        for pool in runnable
        if ask.flavor in (None, pool.flavor) and ask.region in (None, pool.cluster.region)
    ]
    if not asked:
        names = ", ".join(sorted({f"{pool.flavor.slug} in {pool.cluster.region.slug}" for pool in runnable}))
        raise WishRefused(
            f"The model can be tuned on: {names}.",
            type="no-such-place",
            field="flavor" if ask.flavor else "region",
        )
    return asked


def _plan(
    ask: TuningAsk,
    pool: NodePool,
    recipes: dict[str, Recipe],
    *,
    organization: Organization,
    at: datetime,
) -> TuningPlan | None:
    flavor = pool.flavor
    recipe = recipes[AcceleratorFamily(flavor.accelerator.family)]
    price = price_in_force(flavor=flavor, region=pool.cluster.region, organization=organization, at=at)
    if price is None:
        return None
    load = Load(
        parameters=ask.base.parameters or 0,
        tokens_per_epoch=ask.training_data.report["estimated_tokens"],
        epochs=ask.hyperparameters["epochs"],
        batch_tokens=ask.hyperparameters["batch_tokens"],
    )
    speed = Speed(
        operations_per_second=_operations_per_second(flavor, recipe),
        measured_tokens_per_second=_measured_paces(ask.base, flavor),
    )
    return TuningPlan(
        ask=ask,
        pool=pool,
        recipe=recipe,
        price=price,
        memory_bytes=_memory(ask, recipe),
        estimate=estimate_tuning(load, speed, per_second=price.per_second),
    )


def _memory(ask: TuningAsk, recipe: Recipe) -> int:
    """Weights, adapter with optimizer, activations and logits of one packed row, in bytes.

    Activations of a decoder layer: s·h·(34 + 5·a·s/h) bytes in 16 bit, for s tokens, hidden size h and a
    heads; Korthikanti et al. (2022), https://arxiv.org/abs/2205.05198, equation 2. Measured on a 135M model
    in float32 with rows of 256 tokens: 1.65 GiB resident at most, against 1.5 by this formula.
    """
    facts = ask.base.architecture
    layers, hidden = facts.get("layers") or 0, facts.get("hidden_size") or 0
    heads = facts.get("attention_heads") or 0
    width = BYTES_PER_VALUE[recipe.precision]
    adapter = 2 * LINEAR_MATRICES * layers * hidden * ask.hyperparameters["lora_rank"]
    tokens = _row_tokens(ask, recipe)
    activations = layers * tokens * (34 * hidden + 5 * heads * tokens) * width / 2
    # In float32, with their gradient.
    logits = 2 * tokens * (facts.get("vocabulary") or 0) * 4
    return int(
        (ask.base.parameters or 0) * width
        + adapter * TRAINED_STATE_BYTES
        + activations
        + logits
        + FRAMEWORK_BYTES[recipe.accelerator_family]
    )


def _row_tokens(ask: TuningAsk, recipe: Recipe) -> int:
    """Tokens that are computed together: a packed row, or an example that is longer."""
    batch: int = ask.hyperparameters["batch_tokens"]
    row = min(batch, TUNING_ROW_TOKENS.get(recipe.accelerator_family, batch))
    data = (ask.training_data, ask.validation_data)
    longest: int = max(item.report["longest_example_estimated_tokens"] for item in data if item is not None)
    limit: int = ask.hyperparameters["max_length"]
    return max(row, min(longest, limit))


def _operations_per_second(flavor: Flavor, recipe: Recipe) -> float:
    if flavor.accelerator.family == AcceleratorFamily.CPU:
        return float(flavor.vcpus) * CPU_OPERATIONS_PER_SECOND_AND_CORE
    peaks = flavor.accelerator.peak_tflops
    peak = peaks.get(recipe.precision) or max(peaks.values(), default=1.0)
    return float(peak) * 1e12 * flavor.accelerator_count * UTILIZATION


def _measured_paces(base: ModelVersion, flavor: Flavor) -> Sequence[float]:
    jobs = FineTuningJob.objects.filter(base=base, flavor=flavor, state=JobState.SUCCEEDED).order_by("-pk")
    events = TrainingEvent.objects.filter(
        job__in=jobs.values("pk")[:RUNS_REMEMBERED], type=TrainingEventType.FINISHED
    )
    return [
        event.data["trained_tokens"] / event.data["seconds"]
        for event in events
        if event.data.get("trained_tokens") and event.data.get("seconds")
    ]
