"""The start of a replica, step by step: when each began and ended, and when those to come are expected.
Pure.

What is expected of a step is the median of earlier starts of the same model version on the same flavor. Of
the step that is under way the estimate is never earlier than now: a start that takes longer than usual says
so by an ETA that moves along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from deployments.reconcile.replicas import ReplicaFacts


class Step(StrEnum):
    """The steps of a start, in their order."""

    QUEUED = "queued"
    """Until a node is chosen."""
    SCHEDULED = "scheduled"
    """A node is chosen: a moment, not a span."""
    IMAGE = "image"
    """Until the image is on the node."""
    WEIGHTS = "weights"
    """Until the weights are in the node's cache; left out where there is none."""
    MODEL_LOAD = "model_load"
    """From the start of the container to the first answer."""
    READY = "ready"
    """It answers: a moment."""


MOMENTS = (Step.SCHEDULED, Step.READY)
Span = tuple[datetime | None, datetime | None]


@dataclass(frozen=True, kw_only=True)
class TimelineStep:
    """One step. Times are timezone-aware."""

    step: Step
    started_at: datetime | None = None
    ended_at: datetime | None = None
    eta: datetime | None = None
    """When it should end; None when it has, and when nothing is known of earlier starts."""
    usual_seconds: float | None = None
    """Median of earlier starts."""


def spans(replica: ReplicaFacts) -> dict[Step, Span]:
    """When each step of a replica's start began and ended, as far as its cluster has said."""
    pulled = replica.image_pulled_at or replica.started_at
    found: dict[Step, Span] = {
        Step.QUEUED: (replica.created_at, replica.scheduled_at),
        Step.SCHEDULED: (replica.scheduled_at, replica.scheduled_at),
        Step.IMAGE: (replica.scheduled_at, pulled),
        Step.WEIGHTS: (pulled, replica.weights_done_at),
        Step.MODEL_LOAD: (replica.started_at, replica.ready_at),
        Step.READY: (replica.ready_at, replica.ready_at),
    }
    if replica.weights_done_at is None and replica.started_at is not None:
        del found[Step.WEIGHTS]  # there was nothing to bring
    return found


def learn_steps(starts: Iterable[ReplicaFacts]) -> dict[Step, float]:
    """The median seconds of each step over earlier starts."""
    seconds: dict[Step, list[float]] = {}
    for replica in starts:
        for step, (begin, end) in spans(replica).items():
            if step not in MOMENTS and begin is not None and end is not None:
                seconds.setdefault(step, []).append(max(0.0, (end - begin).total_seconds()))
    return {step: median(values) for step, values in seconds.items()}


def timeline(
    replica: ReplicaFacts, *, usual: Mapping[Step, float], now: datetime, weights_seconds: float | None = None
) -> tuple[TimelineStep, ...]:
    """The steps of a replica's start in their order.

    `weights_seconds` is what the weights still take by their own account, which goes before the median.
    """
    steps = []
    over = replica.ended_at is not None
    expected: datetime | None = replica.created_at  # when the step at hand begins
    for step, (begin, end) in spans(replica).items():
        seconds = usual.get(step)
        if end is not None:
            steps.append(TimelineStep(step=step, started_at=begin, ended_at=end, usual_seconds=seconds))
            expected = end
            continue
        start = begin or expected
        if step is Step.WEIGHTS and step not in usual and begin is None:
            continue  # no start before had any to bring
        if step in MOMENTS:
            expected = start
        elif step is Step.WEIGHTS and begin is not None and weights_seconds is not None:
            expected = now + timedelta(seconds=weights_seconds)
        elif start is not None and seconds is not None:
            expected = max(start + timedelta(seconds=seconds), now)
        else:
            expected = None
        steps.append(
            TimelineStep(step=step, started_at=begin, eta=None if over else expected, usual_seconds=seconds)
        )
    return tuple(steps)
