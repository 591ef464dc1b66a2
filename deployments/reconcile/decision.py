"""What one look at a workload leads to: facts to record, then steps to take. Values only.

Both kinds of workload decide in the same form, so that one loop serves them, and so that the sweep can ask
"is there anything to do?" of thousands of rows without touching database or cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.steps import Step
from marketplace.billing.metering import Stretch


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A transition, in the customer's words: becomes an event."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ReplicaChange:
    """New facts of one replica, and what of its life can be billed for good now."""

    facts: ReplicaFacts
    before: ReplicaFacts | None = None
    """What was recorded of it until now."""
    stretches: Sequence[Stretch] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """One event line of a training run."""

    replica_uid: str
    line: int
    event: Mapping[str, Any]
    """As `runtimes.contract.parse_event` and `reading.cleaned` give it."""


@dataclass(frozen=True, kw_only=True)
class DeletionRecord:
    """What is new about a deletion."""

    columns: Mapping[str, Any]
    """Fact columns of its `Deletion` row. With `gone_at` among them a receipt is issued."""
    alert: str = ""
    """What the provider has to be told, once; empty = nothing."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Facts are recorded before steps are taken, so that nothing is lost when we die in between."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    """Fact columns of the row that change, with their new values."""
    revisions: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Of a deployment: number of a revision -> its fact columns that change."""
    replicas: tuple[ReplicaChange, ...] = ()
    training: tuple[TrainingRecord, ...] = ()
    deletion: DeletionRecord | None = None
    happenings: tuple[Happening, ...] = ()
    steps: tuple[Step, ...] = ()
    look_again: bool = False
    """Something goes on that no object of the cluster shows, such as lines of a training log."""

    @property
    def has_news(self) -> bool:
        """Whether there is anything to record."""
        news = (self.columns, self.revisions, self.replicas, self.training, self.deletion, self.happenings)
        return any(news)

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to do at all."""
        return not (self.has_news or self.steps or self.look_again)
