"""The starts of a workload's replicas, as customers read them: facts, what earlier starts teach, and how
far the weights are by their own log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from deployments.clusters.errors import ClusterError
from deployments.reconcile.kinds import facts_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.timeline import Step, learn_steps, timeline
from deployments.serving.logs import read_log
from deployments.serving.models import Replica, Revision
from deployments.serving.workload import Workload
from runtimes.contract import WEIGHTS_CONTAINER, WeightsProgress, parse_weights

log = logging.getLogger(__name__)

REPLICAS_SHOWN = 10
STARTS_REMEMBERED = 20
REVISIONS_REMEMBERED = 200
LINES_OF_WEIGHTS = 20


EarlierStarts = Callable[[Any, int | None], list[ReplicaFacts]]
"""(workload, number of a revision) -> the newest starts like those of its replicas, whoever's they were."""


def timelines(
    workload: Workload, *, now: datetime, earlier: EarlierStarts | None = None
) -> list[dict[str, Any]]:
    """The newest replicas of a workload, each with the steps of its start; the newest first.

    `earlier` is needed of anything but a deployment.
    """
    learn_from = earlier or _earlier_starts
    newest = Replica.objects.filter(resource=workload.public_id).order_by("-created_at", "-id")
    usual: dict[int | None, dict[Step, float]] = {}
    found = []
    for replica in map(facts_of, newest[:REPLICAS_SHOWN]):
        if replica.revision not in usual:
            usual[replica.revision] = learn_steps(learn_from(workload, replica.revision))
        weights = _weights(workload, replica)
        steps = timeline(
            replica,
            usual=usual[replica.revision],
            now=now,
            weights_seconds=weights.seconds_left if weights else None,
        )
        found.append(
            {
                "replica": replica.name,
                "revision": replica.revision,
                "node": replica.node,
                "steps": [asdict(step) | _bytes(step.step, weights) for step in steps],
            }
        )
    return found


def _earlier_starts(deployment: Any, revision: int | None) -> list[ReplicaFacts]:
    """The newest starts of the same version on the same flavor, whoever's they were."""
    mine = Revision.objects.filter(deployment=deployment, number=revision or 0).first()
    if mine is None:
        return []
    alike = Revision.objects.filter(version=mine.version_id, flavor=mine.flavor_id).order_by("-pk")
    numbers = set(alike.values_list("deployment__public_id", "number")[:REVISIONS_REMEMBERED])
    started = Replica.objects.filter(
        resource__in={resource for resource, _ in numbers}, ready_at__isnull=False, restarts=0
    )
    newest = started.order_by("-created_at")[: 2 * STARTS_REMEMBERED]
    return [facts_of(it) for it in newest if (it.resource, it.revision) in numbers][:STARTS_REMEMBERED]


def _weights(workload: Workload, replica: ReplicaFacts) -> WeightsProgress | None:
    """How far the weights are; None before and after, and when their log cannot be read."""
    if replica.image_pulled_at is None or replica.weights_done_at or replica.started_at or replica.ended_at:
        return None
    try:
        lines = read_log(
            workload,
            replica=replica.uid,
            container=WEIGHTS_CONTAINER,
            limit=LINES_OF_WEIGHTS,
            tail=True,
        )
    except ClusterError as error:
        log.warning("%s: how far the weights are is not known: %s", workload.public_id, error)
        return None
    progress = [found for line in lines if (found := parse_weights(line.text))]
    return progress[-1] if progress else None


def _bytes(step: Step, weights: WeightsProgress | None) -> dict[str, Any]:
    known = weights if step is Step.WEIGHTS else None
    return {
        "bytes_done": known.bytes_done if known else None,
        "bytes_total": known.bytes_total if known else None,
        "message": known.message if known else "",
    }
