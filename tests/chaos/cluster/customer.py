"""A customer with deployments and jobs, who wishes at random, by the product's own lifecycle functions."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deployments.serving import lifecycle as serving
from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment
from deployments.serving.plans import ServingAsk, make_plan
from deployments.serving.rollouts import RolloutAsk
from deployments.tuning import lifecycle as tuning
from deployments.tuning.models import Dataset, DatasetVersion, FineTuningJob
from deployments.tuning.plans import TuningAsk, plan_tuning
from marketplace.accounts.actors import Actor, actor_of_key
from marketplace.accounts.keys import issue_key
from marketplace.accounts.models import Organization, Scope
from marketplace.billing.models import Quota
from tests.chaos.cluster.installation import Installation
from tests.chaos.cluster.truth import Span

MOST = 4
"""Workloads of one customer."""
FOREVER = datetime.max
PATIENCE_SECONDS = 7200
"""Of an update: longer than a round, so that no good one is given up for being late."""


@dataclass
class Wish:
    """What the customer wants of one workload, and has wanted."""

    row: Deployment | FineTuningJob
    replicas: int = 1
    concurrency: int = 4
    revision: int = 1
    state: str = "running"
    broken: set[int] = field(default_factory=set)
    """Revisions that cannot start."""
    stops: list[list[datetime | None]] = field(default_factory=list)
    """[from, until or None]: when the customer wanted it stopped."""

    @property
    def id(self) -> str:
        return self.row.public_id

    @property
    def is_job(self) -> bool:
        return isinstance(self.row, FineTuningJob)

    def stop_spans(self, now: datetime) -> list[Span]:
        return [(start, end or now) for start, end in self.stops if start is not None]


class Customer:
    """One organization."""

    def __init__(self, installation: Installation, *, name: str, dice: random.Random) -> None:
        self._installation, self._dice = installation, dice
        self.organization = Organization.objects.create(slug=name, name=name)
        Quota.objects.create(organization=self.organization, accelerator_family="cpu", limit=1000)
        key, _ = issue_key(organization=self.organization, name=name, scopes=Scope.values)
        self.actor: Actor = actor_of_key(key)
        self.wishes: list[Wish] = []

    @property
    def living(self) -> list[Wish]:
        return [wish for wish in self.wishes if wish.state not in ("deleted", "cancelled")]

    def wish(self) -> str:
        """One random wish; in words."""
        if not self.living or (len(self.wishes) < MOST and self._dice.random() < 0.4):
            return self._tune() if self.wishes and self._dice.random() < 0.3 else self._deploy()
        wish = self._dice.choice(self.living)
        if wish.is_job:
            return self.cancel(wish) if self._dice.random() < 0.3 else ""
        if wish.state == "paused":
            return self._dice.choice((self._resume, self.delete))(wish)
        acts = (self._scale, self._roll, self._roll, self._pause, self.delete)
        return self._dice.choice(acts)(wish)

    def _plan(self, wish: Wish | None, *, replicas: int, concurrency: int) -> Any:
        market = self._installation.market
        ask = ServingAsk(
            version=market.version,
            flavor=market.flavor,
            region=None,
            replicas=replicas,
            context_length=2048,
            max_concurrency=concurrency,
        )
        besides = wish.row if wish is not None and isinstance(wish.row, Deployment) else None
        return make_plan(actor=self.actor, ask=ask, besides=besides)

    def _deploy(self) -> str:
        replicas = self._dice.randint(1, 3)
        plan = self._plan(None, replicas=replicas, concurrency=4)
        row = serving.create_deployment(actor=self.actor, plan=plan, name=f"bot-{len(self.wishes)}")
        self.wishes.append(Wish(row=row, replicas=replicas))
        return f"created {row.public_id} with {replicas}"

    def _tune(self) -> str:
        market, number = self._installation.market, len(self.wishes)
        dataset, _ = Dataset.objects.get_or_create(organization=self.organization, name="chats")
        report = {"examples": 10, "estimated_tokens": 1000, "longest_example_estimated_tokens": 100}
        data, _ = DatasetVersion.objects.get_or_create(
            dataset=dataset,
            digest="c" * 64,
            defaults={"storage_path": "datasets/chats.jsonl", "bytes": 1, "report": report},
        )
        settings = {"epochs": 1, "learning_rate": 1e-4, "lora_rank": 8, "batch_tokens": 256}
        ask = TuningAsk(
            name=f"tuned-{number}",
            base=market.version,
            training_data=data,
            validation_data=None,
            hyperparameters=settings | {"max_length": 128, "validation_share": 0.1, "seed": 1},
            flavor=market.flavor,
            region=None,
        )
        plan = plan_tuning(ask, organization=self.organization)
        row = tuning.create_job(actor=self.actor, plan=plan)
        self.wishes.append(Wish(row=row))
        return f"created {row.public_id}"

    def _scale(self, wish: Wish) -> str:
        wish.replicas = self._dice.choice([count for count in (1, 2, 3) if count != wish.replicas])
        self._update(wish, RolloutAsk())
        return f"scaled {wish.id} to {wish.replicas}"

    def _roll(self, wish: Wish) -> str:
        wish.concurrency += 1
        broken = self._dice.random() < 0.25
        if broken:
            wish.broken.add(wish.revision + 1)
            self._installation.machines.broken.add((wish.id, str(wish.revision + 1)))
        wish.revision += 1
        strategy = self._dice.choice(("rolling", "recreate"))
        self._update(wish, RolloutAsk(strategy=strategy, progress_seconds=PATIENCE_SECONDS))
        return f"rolled {wish.id} to revision {wish.revision}, {strategy}" + (", broken" if broken else "")

    def _update(self, wish: Wish, rollout: RolloutAsk) -> None:
        wish.row.refresh_from_db()
        assert isinstance(wish.row, Deployment)
        plan = self._plan(wish, replicas=wish.replicas, concurrency=wish.concurrency)
        wish.row = serving.update_deployment(
            actor=self.actor, deployment=wish.row, plan=plan, rollout=rollout
        )
        assert wish.row.target_revision == wish.revision

    def _pause(self, wish: Wish) -> str:
        assert isinstance(wish.row, Deployment)
        wish.row = serving.pause_deployment(actor=self.actor, deployment=wish.row)
        wish.state = "paused"
        wish.stops.append([self._installation.clock.now(), None])
        return f"paused {wish.id}"

    def _resume(self, wish: Wish) -> str:
        assert isinstance(wish.row, Deployment)
        wish.row = serving.resume_deployment(actor=self.actor, deployment=wish.row)
        wish.state = "running"
        wish.stops[-1][1] = self._installation.clock.now()
        return f"resumed {wish.id}"

    def delete(self, wish: Wish) -> str:
        """Of a deployment."""
        assert isinstance(wish.row, Deployment)
        wish.row = serving.delete_deployment(actor=self.actor, deployment=wish.row)
        if wish.state != "paused":
            wish.stops.append([self._installation.clock.now(), None])
        wish.state = "deleted"
        return f"deleted {wish.id}"

    def cancel(self, wish: Wish) -> str:
        """Of a job; one that has ended stays as it is."""
        assert isinstance(wish.row, FineTuningJob)
        try:
            wish.row = tuning.cancel_job(actor=self.actor, job=wish.row)
        except WishRefused:
            return ""
        wish.state = "cancelled"
        wish.stops.append([self._installation.clock.now(), None])
        return f"cancelled {wish.id}"
