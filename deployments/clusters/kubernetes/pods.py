"""Pods as the port shows them. Pure, and total: whatever a pod looks like, there is an answer.

Times are the cluster's, to the second. Conditions only know their last change, so what came first (the first
start, the first readiness) is the earliest that the pod still tells; the reconciler keeps what it once saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.clusters.kubernetes.kinds import POD, REPLICA_SET
from deployments.clusters.kubernetes.objects import revision_of, time_of
from deployments.clusters.port import RESOURCE_LABEL, ObjectRef, ObservedPod
from runtimes.contract import WEIGHTS_CONTAINER

FINISHED = ("Succeeded", "Failed")
_EPOCH = datetime.fromtimestamp(0, UTC)
_FIRST_REPORT = timedelta(seconds=2)
"""So long after a pod's start the first report of its kubelet still is the first."""
_PLAIN_ENDS = ("", "Error", "Completed")
"""Of an end that a container has recovered from these words tell nothing more."""
_NOTHING_YET = ("PodInitializing", "ContainerCreating")

Json = Mapping[str, Any]


def observed_pod(record: Json) -> ObservedPod:
    """The facts of one pod from its JSON."""
    metadata, spec, status = record["metadata"], _dict(record, "spec"), _dict(record, "status")
    labels = metadata.get("labels") or {}
    containers = spec.get("containers") or [{}]
    main = _container_status(status, containers[0].get("name", ""))
    conditions = _conditions(status)
    created_at = time_of(metadata.get("creationTimestamp")) or _EPOCH
    deleting_since = time_of(metadata.get("deletionTimestamp"))
    phase = status.get("phase") or "Pending"
    ready = conditions.get("Ready", {})
    is_ready = ready.get("status") == "True"
    first_start = _first_start(main)
    ready_changed_at = _ready_changed_at(ready, started=time_of(status.get("startTime")) or created_at)
    why = _why(record, conditions=conditions, main=main)
    init = _unfinished_init(spec, status, phase=phase)
    # Before the main container's turn it is the init container that ends and is started again.
    current = _container_status(status, init, within="initContainerStatuses") if init else main
    last_end = _last_end(main)
    return ObservedPod(
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        resource=labels.get(RESOURCE_LABEL, ""),
        revision=revision_of(labels),
        phase=phase,
        created_at=created_at,
        scheduled_at=_scheduled_at(spec, conditions, status),
        started_at=first_start,
        ready_at=ready_changed_at if is_ready else None,
        finished_at=_finished_at(status, conditions, created_at) if phase in FINISHED else None,
        # One that is being deleted may answer a little longer, but gets no new requests.
        ready=is_ready and deleting_since is None and phase not in FINISHED,
        ready_changed_at=ready_changed_at,
        node=spec.get("nodeName") or "",
        address=_address(status, containers[0]),
        restarts=int(current.get("restartCount") or 0),
        exit_code=_exit_code(current),
        reason=why.reason,
        message=why.message,
        init_container=init,
        image_pulled_at=_image_pulled_at(status),
        weights_done_at=_weights_done_at(status),
        last_end_at=time_of(last_end.get("finishedAt")),
        last_run_at=time_of(last_end.get("startedAt")),
        last_end_reason=_word_of(last_end) if last_end else "",
        # Kubernetes notes when the grace period ends; what is wanted is when it was asked to go.
        deleting_since=_asked_to_go(metadata, deleting_since),
        finalizers=tuple(metadata.get("finalizers") or ()),
        owner=str(_owner(metadata).get("uid", "")),
        ends_with=_ends_with(metadata),
    )


def _owner(metadata: Json) -> Json:
    """The reference to the controller of the pod; empty without one."""
    return next((item for item in _list(metadata, "ownerReferences") if item.get("controller")), {})


def _ends_with(metadata: Json) -> tuple[ObjectRef, ...]:
    """The pod, after the ReplicaSet that would replace it: `kubectl delete --cascade=orphan` leaves both."""
    namespace, owner = metadata.get("namespace", ""), _owner(metadata)
    pod = ObjectRef(POD.api_version, POD.kind, namespace, metadata["name"])
    if (owner.get("apiVersion"), owner.get("kind")) != (REPLICA_SET.api_version, REPLICA_SET.kind):
        return (pod,)
    return ObjectRef(REPLICA_SET.api_version, REPLICA_SET.kind, namespace, str(owner.get("name"))), pod


@dataclass(frozen=True)
class _Why:
    reason: str = ""
    message: str = ""


def _why(record: Json, *, conditions: Mapping[str, Json], main: Json) -> _Why:
    """Kubernetes' word for how the pod is: what ended all of it, before what a container does."""
    spec, status = _dict(record, "spec"), _dict(record, "status")
    disrupted = conditions.get("DisruptionTarget", {})
    ended = (main.get("state") or {}).get("terminated") or {}
    if status.get("reason"):  # Evicted, NodeLost, Terminated, Preempting…
        return _Why(status["reason"], status.get("message") or "")
    completed = status.get("phase") == "Succeeded" or ended.get("exitCode") == 0
    if disrupted.get("status") == "True" and not completed:
        return _Why(disrupted.get("reason") or "DisruptionTarget", disrupted.get("message") or "")
    init = _unfinished_init(spec, status, phase=status.get("phase") or "Pending")
    if init:
        of_init = _of_container(_container_status(status, init, within="initContainerStatuses"))
        if of_init.reason:
            return of_init
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and not spec.get("nodeName"):
        return _Why(scheduled.get("reason") or "Unschedulable", scheduled.get("message") or "")
    own = _of_container(main)
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True":
        return _Why()
    if _is_node_lost(ready, conditions.get("ContainersReady", {})) and not ended:
        return _Why("NodeLost", ready.get("message") or "The node does not report.")
    return own


def _is_node_lost(ready: Json, containers: Json) -> bool:
    """Whether somebody else than the kubelet says that the pod is not ready.

    When a node stops to report, the node life-cycle controller sets Ready alone to False (MarkPodsNotReady in
    pkg/controller/util/node), without a word; a kubelet always sets Ready and ContainersReady together, as
    long as there are no readiness gates, which pods of ours do not have.
    """
    return ready.get("status") == "Unknown" or (
        ready.get("status") == "False" and containers.get("status") == "True"
    )


def _of_container(container: Json) -> _Why:
    state = container.get("state") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    if waiting := state.get("waiting"):
        return _waiting(waiting, last)
    if ended := state.get("terminated"):
        return _Why(_word_of(ended), _message_of(ended))
    if last and _word_of(last) not in _PLAIN_ENDS:
        return _Why(_word_of(last), _message_of(last))  # it runs again, after an end that says something
    return _Why()


def _waiting(waiting: Json, last: Json) -> _Why:
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    if reason != "CrashLoopBackOff" or not last:
        return _Why(reason, message)
    told = _message_of(last)
    message = "; ".join(part for part in (f"the last run ended with {_end(last)}", told, message) if part)
    # Why it ended says more than that it waits.
    return _Why(_word_of(last) if _word_of(last) not in _PLAIN_ENDS else reason, message)


def _end(ended: Json) -> str:
    return f"exit code {ended.get('exitCode')}" + (
        f" ({ended['reason']})" if ended.get("reason") not in (None, *_PLAIN_ENDS) else ""
    )


def _word_of(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return "Completed" if ended.get("exitCode") == 0 else "Error"


def _message_of(ended: Json) -> str:
    return str(ended.get("message") or "").strip()


def _unfinished_init(spec: Json, status: Json, *, phase: str) -> str:
    """The first init container that has not done its part, once one of them was begun."""
    if phase in ("Running", "Succeeded") or "initContainerStatuses" not in status:
        return ""
    for container in spec.get("initContainers") or ():
        found = _container_status(status, container.get("name", ""), within="initContainerStatuses")
        state = found.get("state") or {}
        if container.get("restartPolicy") == "Always":
            done = bool(found.get("started"))
        else:
            done = (state.get("terminated") or {}).get("exitCode") == 0
        if not done:
            return str(container.get("name", ""))
    return ""


def _scheduled_at(spec: Json, conditions: Mapping[str, Json], status: Json) -> datetime | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "True":
        return time_of(scheduled.get("lastTransitionTime"))
    # Bound without the scheduler, as a DaemonSet's or a static pod is.
    return time_of(status.get("startTime")) if spec.get("nodeName") else None


def _first_start(container: Json) -> datetime | None:
    known = [
        time_of(run.get("startedAt"))
        for state in (container.get("state") or {}, container.get("lastState") or {})
        for name, run in state.items()
        if name in ("running", "terminated") and isinstance(run, Mapping)
    ]
    # A container that could not be started "ended" at the beginning of time.
    return min((time for time in known if time is not None and time > _EPOCH), default=None)


def _last_end(container: Json) -> Json:
    """The newest run of a container that ended; empty if none has."""
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        if isinstance(ended, Mapping):
            return ended
    return {}


def _image_pulled_at(status: Json) -> datetime | None:
    """All containers of a pod of ours have one image, so it is there when the first of them starts."""
    containers = [*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses")]
    return min((start for it in containers if (start := _first_start(it)) is not None), default=None)


def _weights_done_at(status: Json) -> datetime | None:
    weights = _container_status(status, WEIGHTS_CONTAINER, within="initContainerStatuses")
    ended = (weights.get("state") or {}).get("terminated") or {}
    return time_of(ended.get("finishedAt")) if ended.get("exitCode") == 0 else None


def _ready_changed_at(ready: Json, *, started: datetime) -> datetime | None:
    """When readiness last changed. It begins as not ready, which is no change."""
    changed = time_of(ready.get("lastTransitionTime"))
    if changed is None or ready.get("status") == "True":
        return changed
    return changed if changed > started + _FIRST_REPORT else None


def _finished_at(status: Json, conditions: Mapping[str, Json], created_at: datetime) -> datetime:
    ends = [
        time_of(((container.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for container in _list(status, "containerStatuses")
    ]
    known = [end for end in ends if end is not None and end > _EPOCH]
    if known:
        return max(known)
    # Ended by others, without a container's word: evicted before a start, or with its node.
    for name in ("DisruptionTarget", "Ready"):
        changed = time_of(conditions.get(name, {}).get("lastTransitionTime"))
        if changed is not None:
            return changed
    return time_of(status.get("startTime")) or created_at


def _exit_code(main: Json) -> int | None:
    for state in (main.get("state") or {}, main.get("lastState") or {}):
        ended = state.get("terminated")
        if ended and ended.get("exitCode") is not None:
            return int(ended["exitCode"])
    return None


def _address(status: Json, container: Json) -> str:
    ports = container.get("ports") or ()
    address = status.get("podIP") or ""
    if not address or not ports:
        return ""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{ports[0]['containerPort']}"


def _asked_to_go(metadata: Json, deadline: datetime | None) -> datetime | None:
    if deadline is None:
        return None
    return deadline - timedelta(seconds=int(metadata.get("deletionGracePeriodSeconds") or 0))


def _container_status(status: Json, name: str, *, within: str = "containerStatuses") -> Json:
    return next((item for item in _list(status, within) if item.get("name") == name), {})


def _conditions(status: Json) -> dict[str, Json]:
    return {item.get("type", ""): item for item in _list(status, "conditions")}


def _dict(record: Json, name: str) -> Json:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(record: Json, name: str) -> Iterable[Json]:
    return [item for item in record.get(name) or () if isinstance(item, Mapping)]
