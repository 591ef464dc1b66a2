"""Decides, for one apps/v1 Deployment, which pods to add and which to let go. Pure.

Like Kubernetes' RollingUpdate: pods of a changed template are added first (maxSurge) and old ones go only
while enough others are ready (maxUnavailable), so that a template that never gets ready never takes the
serving pods down.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployments.clusters.local.pods import TEMPLATE_HASH_LABEL, Pod

DEFAULT_SHARE = "25%"
FINISHED_KEPT = 20
"""Pods that ended with the node and stay visible beside their replacements, or twice as many as are wanted if
that is more. Counted, not timed: who bills them may have been down for as long as the node was."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a controller wants: so many new pods, and these gone."""

    create: int = 0
    delete: tuple[str, ...] = ()
    """Pod uids."""
    look_again_at: datetime | None = None
    """When time alone will change the answer."""


def template_hash(deployment: Mapping[str, Any]) -> str:
    """Names the version of the pod template; pods carry it as a label."""
    text = json.dumps(deployment["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def plan_rollout(deployment: Mapping[str, Any], pods: Sequence[Pod], *, now: datetime) -> Changes:
    """The next step towards `replicas` pods of the current template. `pods` are all of this Deployment.

    `now` plays no part: it is there because a Job's plan needs it.
    """
    wanted = 0 if deployment["metadata"].get("deletionTimestamp") else _replicas(deployment)
    version = template_hash(deployment)
    finished = [pod for pod in pods if pod.is_finished and not pod.deleting_since]
    alive = [pod for pod in pods if not pod.is_finished and not pod.deleting_since]
    current = [pod for pod in alive if pod.labels.get(TEMPLATE_HASH_LABEL) == version]
    old = [pod for pod in alive if pod.labels.get(TEMPLATE_HASH_LABEL) != version]
    surge, unavailable = _limits(deployment, wanted)

    # 1. More of the current template, as far as the surge allows.
    room = wanted + surge - len(alive)
    create = max(0, min(wanted - len(current), room))

    # 2. Fewer: old ones first, then what is too many; the ones that serve least go first.
    gone = _let_go(old, alive, keep_ready=wanted - unavailable)
    excess = sorted(current, key=_worth)[: max(0, len(current) - wanted)]
    gone += [pod.uid for pod in excess]

    # 3. Of the pods that ended with the node the newest are kept, the others forgotten.
    kept = 0 if deployment["metadata"].get("deletionTimestamp") else max(FINISHED_KEPT, 2 * wanted)
    newest_first = sorted(finished, key=lambda pod: pod.finished_at or pod.created_at, reverse=True)
    gone += [pod.uid for pod in newest_first[kept:]]
    return Changes(create=create, delete=tuple(gone))


def deployment_status(deployment: Mapping[str, Any], pods: Sequence[Pod]) -> dict[str, Any]:
    """The status block, from facts. Shape: apps/v1 DeploymentStatus."""
    alive = [pod for pod in pods if not pod.is_finished and not pod.deleting_since]
    version = template_hash(deployment)
    ready = sum(pod.ready for pod in alive)
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(alive),
        "updatedReplicas": sum(pod.labels.get(TEMPLATE_HASH_LABEL) == version for pod in alive),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, _replicas(deployment) - ready),
    }


def _replicas(deployment: Mapping[str, Any]) -> int:
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _limits(deployment: Mapping[str, Any], wanted: int) -> tuple[int, int]:
    """(how many pods too many, how many too few) a replacement may make."""
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, wanted
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", DEFAULT_SHARE), wanted, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", DEFAULT_SHARE), wanted, math.floor)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, whole: int, rounding: Any) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return int(rounding(whole * int(value[:-1]) / 100))
    return int(value)


def _let_go(old: Sequence[Pod], alive: Sequence[Pod], *, keep_ready: int) -> list[str]:
    gone = [pod.uid for pod in old if not pod.ready]
    spare = sum(pod.ready for pod in alive) - keep_ready
    ready = sorted((pod for pod in old if pod.ready), key=_worth)
    return gone + [pod.uid for pod in ready[: max(0, spare)]]


def _worth(pod: Pod) -> tuple[bool, bool, float]:
    """Sorts the pod that is missed least first: not bound, then not ready, then the youngest."""
    return (bool(pod.scheduled_at), pod.ready, -pod.created_at.timestamp())
