"""The starts of a deployment's replicas, as customers read them: facts, what earlier starts teach, and how
far the weights are by their own log.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime
from typing import Any

from deployments.clusters.errors import ClusterError
from deployments.clusters.registry import open_cluster
from deployments.reconcile.kinds import facts_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.timeline import Step, learn_steps, timeline
from deployments.serving.models import Deployment, Replica, Revision
from runtimes.contract import WEIGHTS_CONTAINER, WeightsProgress, parse_weights

log = logging.getLogger(__name__)

REPLICAS_SHOWN = 10
STARTS_REMEMBERED = 20
REVISIONS_REMEMBERED = 200
LINES_OF_WEIGHTS = 20


def timelines(deployment: Deployment, *, now: datetime) -> list[dict[str, Any]]:
    """The newest replicas of a deployment, each with the steps of its start; the newest first."""
    newest = Replica.objects.filter(resource=deployment.public_id).order_by("-created_at", "-id")
    usual: dict[int | None, dict[Step, float]] = {}
    found = []
    for replica in map(facts_of, newest[:REPLICAS_SHOWN]):
        if replica.revision not in usual:
            usual[replica.revision] = learn_steps(_earlier_starts(deployment, replica.revision))
        weights = _weights(deployment, replica)
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


def _earlier_starts(deployment: Deployment, revision: int | None) -> list[ReplicaFacts]:
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


def _weights(deployment: Deployment, replica: ReplicaFacts) -> WeightsProgress | None:
    """How far the weights are; None before and after, and when their log cannot be read."""
    if replica.image_pulled_at is None or replica.weights_done_at or replica.started_at or replica.ended_at:
        return None
    try:
        lines = open_cluster(deployment.cluster).logs(
            deployment.public_id,
            pod=replica.uid,
            container=WEIGHTS_CONTAINER,
            limit=LINES_OF_WEIGHTS,
            tail=True,
        )
    except ClusterError as error:
        log.warning("%s: how far the weights are is not known: %s", deployment.public_id, error)
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
