"""How a customer wants a new revision to take the old one's place, as columns of the wish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from deployments.serving.errors import WishRefused
from deployments.serving.models import Deployment, DesiredState, Strategy


@dataclass(frozen=True, kw_only=True)
class RolloutAsk:
    """What an update may say beside what is to run. None: the usual."""

    strategy: str | None = None
    """A `Strategy`; rolling if it is not said."""
    canary_weight: int | None = None
    """Percent of the requests that the new revision is to answer, 1 to 99; None = no canary."""
    progress_seconds: int | None = None
    """How long the new revision may make no progress; settings.ROLLOUT_PROGRESS_SECONDS if it is not said."""

    def in_words(self) -> str:
        """For events."""
        if self.canary_weight is not None:
            return f"as a canary for {self.canary_weight} % of the requests"
        if self.strategy == Strategy.RECREATE:
            return "after the old revision has gone"
        return "while the old revision serves on"


def aim_at(row: Deployment, *, number: int, rollout: RolloutAsk) -> None:
    """Makes the row aim at a new revision. Raises WishRefused for a canary that has nothing to run beside."""
    stable = row.stable_revision or row.serving_revision
    if rollout.canary_weight is not None and (stable is None or row.desired_state != DesiredState.RUNNING):
        raise WishRefused(
            "A canary runs beside a revision that serves, and none does now. Leave 'canary' out.",
            type="nothing-serves",
            field="canary",
        )
    row.target_revision = number
    row.strategy = rollout.strategy or Strategy.ROLLING
    row.progress_seconds = rollout.progress_seconds or settings.ROLLOUT_PROGRESS_SECONDS
    row.canary_weight = rollout.canary_weight
    row.stable_revision = None if rollout.canary_weight is None else stable


def change_rollout(row: Deployment, *, rollout: RolloutAsk) -> dict[str, Any]:
    """Changes how the update under way goes on; returns what changed, for the audit entry.

    Raises WishRefused when there is none that it could be about.
    """
    changes: dict[str, Any] = {}
    if rollout.canary_weight is not None:
        if row.canary_weight is None:
            raise WishRefused(
                "A canary is a new revision: say also what it is to run differently.",
                type="no-canary",
                field="canary",
            )
        changes |= _change(row, "canary_weight", rollout.canary_weight)
    if rollout.strategy is not None or rollout.progress_seconds is not None:
        if stable_of(row) in (None, row.target_revision) or row.canary_weight is not None:
            raise WishRefused(
                "No revision is taking another one's place, so there is nothing to do this way.",
                type="no-update",
                field="strategy" if rollout.strategy is not None else "progress_deadline_seconds",
            )
        changes |= _change(row, "strategy", rollout.strategy or row.strategy)
        changes |= _change(row, "progress_seconds", rollout.progress_seconds or row.progress_seconds)
    return changes


def end_canary(row: Deployment) -> None:
    """The revision aimed at is a canary no more."""
    row.canary_weight = row.stable_revision = None


def stable_of(row: Deployment) -> int | None:
    """The revision that serves, or would again if the one aimed at were taken back; None if there is none."""
    return row.stable_revision or row.serving_revision or row.fallback_revision


def _change(row: Deployment, column: str, value: Any) -> dict[str, Any]:
    before = getattr(row, column)
    if before == value:
        return {}
    setattr(row, column, value)
    return {column: [before, value]}
