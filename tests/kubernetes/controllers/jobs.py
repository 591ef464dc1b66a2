"""Jobs: makes pods until enough have succeeded, judges failures, and says how it ended.

As Kubernetes' controller does: pods carry the finalizer batch.kubernetes.io/job-tracking until they are
counted, rules of the podFailurePolicy are asked in order, indexed Jobs have a pod an index.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.manager import Pace
from tests.kubernetes.controllers.pods import (
    MANAGER,
    condition,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    make_pod,
    phase,
    pods_of,
)
from tests.kubernetes.controllers.recording import Recorder

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
LONGEST_BACKOFF = 360.0


class _Orphan(NamedTuple):
    """A pod that a Job has left behind."""

    namespace: str
    name: str


class Jobs:
    """The controller of batch/v1 Jobs."""

    def __init__(self, server: Server, pace: Pace) -> None:
        self._server, self._pace = server, pace
        self._kind = server.kinds["Job"]
        self._events = Recorder(server, "job-controller")

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._kind:
            return [there.key]
        if change.kind.kind == "Pod":
            owner = controller_of(there.value)
            if owner and owner["kind"] == "Job":
                return [(there.namespace, owner["name"])]
            if owner is None and TRACKING in (there.metadata.get("finalizers") or ()):
                return [_Orphan(there.namespace, there.name)]
        return []

    def reconcile(self, key: Hashable) -> float | None:
        if isinstance(key, _Orphan):
            pod = self._server.store.get(self._server.kinds["Pod"], key.namespace, key.name)
            if pod is not None and controller_of(pod.value) is None:
                self._untrack(pod)  # no Job counts it any more
            return None
        namespace, name = key  # type: ignore[misc]
        live = self._server.store.get(self._kind, namespace, name)
        if live is None or live.is_deleting:
            self._release(namespace, name, spared="")
            return None
        self._release(namespace, name, spared=live.uid)
        status = dict(live.value.get("status") or {})
        if _ended(status):
            for pod in pods_of(self._server, live):
                self._untrack(pod)
            return self._expire(live, status)
        suspended = bool(live.value["spec"].get("suspend"))
        if not suspended:
            status.setdefault("startTime", self._server.stamp())
        status = self._count(live, status)
        end = None if suspended else self._end(live, status)
        if end or suspended:
            self._stop(live)
        again = None
        if not end and not suspended:
            again = self._start(live, status)
        pods = pods_of(self._server, live)
        active = [pod for pod in pods if is_active(pod)]
        status["active"] = len(active)
        if not active:
            del status["active"]
        status["ready"] = sum(is_ready(pod) for pod in active)
        status["terminating"] = sum(pod.is_deleting and not is_finished(pod) for pod in pods)
        if end and not status["terminating"]:
            status["conditions"] = self._conditions(end, status)
            if end[0] == "Complete":
                status["completionTime"] = self._server.stamp()
        live = self._server.get(self._kind, namespace, name)
        self._server.set_status(live, status, manager=MANAGER)
        return again

    # --- Counting ------------------------------------------------------------------------------------------

    def _count(self, live: Stored, status: dict[str, Any]) -> dict[str, Any]:
        """Adds the pods that ended since the last look, and lets go of them."""
        succeeded, failed = status.get("succeeded", 0), status.get("failed", 0)
        indexes = _indexes(status.get("completedIndexes", ""))
        for pod in pods_of(self._server, live):
            if TRACKING not in (pod.metadata.get("finalizers") or ()):
                continue
            ended = is_finished(pod)
            lost = pod.is_deleting and not pod.value["spec"].get("nodeName")
            if not ended and not lost:
                continue
            if phase(pod) == "Succeeded":
                index = _index(pod)
                if index is None or index not in indexes:
                    succeeded += 1
                if index is not None:
                    indexes.add(index)
            elif ended and self._judge(live, pod)[0] != "Ignore":
                failed += 1
            self._untrack(pod)
        status |= {"succeeded": succeeded, "failed": failed, "uncountedTerminatedPods": {}}
        if live.value["spec"].get("completionMode") == "Indexed":
            status["completedIndexes"] = _written(indexes)
        return {name: value for name, value in status.items() if value or name not in ("succeeded", "failed")}

    def _untrack(self, pod: Stored) -> None:
        finalizers = list(pod.metadata.get("finalizers") or ())
        if TRACKING in finalizers:
            left = [name for name in finalizers if name != TRACKING]
            self._server.set_metadata(pod, finalizers=left or None)

    def _release(self, namespace: str, name: str, *, spared: str) -> None:
        """Pods of Jobs of this name that are going or gone need not be counted any more; `spared` is the uid
        of the one that stays.
        """
        for pod in self._server.store.all(self._server.kinds["Pod"], namespace):
            owner = controller_of(pod.value)
            if owner and (owner["kind"], owner["name"]) == ("Job", name) and owner["uid"] != spared:
                self._untrack(pod)

    # --- Judging -------------------------------------------------------------------------------------------

    def _judge(self, live: Stored, pod: Stored) -> tuple[str, int]:
        """(action, index of the rule) for a failed pod; the first rule that matches decides."""
        policy = live.value["spec"].get("podFailurePolicy") or {}
        for number, rule in enumerate(policy.get("rules") or ()):
            if codes := rule.get("onExitCodes"):
                for name, code in _exits(pod):
                    wanted = codes.get("containerName")
                    if wanted not in (None, name) or code == 0:
                        continue
                    if (code in codes["values"]) == (codes["operator"] == "In"):
                        return rule["action"], number
            for pattern in rule.get("onPodConditions") or ():
                found = condition(pod.value, pattern["type"])
                if found.get("status") == pattern.get("status", "True"):
                    return rule["action"], number
        return "Count", -1

    def _end(self, live: Stored, status: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """(Complete or Failed, reason, message) when the Job is over."""
        spec = live.value["spec"]
        for pod in pods_of(self._server, live):
            if phase(pod) == "Failed":
                action, number = self._judge(live, pod)
                if action == "FailJob":
                    return "Failed", "PodFailurePolicy", _failed_by_rule(live, pod, number)
        wanted = spec.get("completions")
        if status.get("succeeded", 0) >= (1 if wanted is None else wanted):
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        restarts = sum(
            item.get("restartCount", 0)
            for pod in pods_of(self._server, live)
            if pod.value["spec"]["restartPolicy"] == "OnFailure"
            for item in (pod.value.get("status") or {}).get("containerStatuses") or ()
        )
        if status.get("failed", 0) + restarts > spec["backoffLimit"]:
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if self._deadline(live, status) <= 0:
            message = "Job was active longer than specified deadline"
            return "Failed", "DeadlineExceeded", message
        return None

    def _deadline(self, live: Stored, status: Mapping[str, Any]) -> float:
        """Seconds left."""
        seconds = live.value["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return float("inf")
        since = datetime.fromisoformat(status["startTime"])
        return (since + timedelta(seconds=seconds) - self._server.time()).total_seconds()

    def _conditions(self, end: tuple[str, str, str], status: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Since 1.31 a Job first says which way it will end, then that it has."""
        kind, reason, message = end
        first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
        now = self._server.stamp()
        entry = {"status": "True", "reason": reason, "message": message}
        entry |= {"lastProbeTime": now, "lastTransitionTime": now}
        return [*(status.get("conditions") or ()), {"type": first, **entry}, {"type": kind, **entry}]

    # --- Making and removing pods --------------------------------------------------------------------------

    def _start(self, live: Stored, status: Mapping[str, Any]) -> float | None:
        spec = live.value["spec"]
        pods = pods_of(self._server, live)
        occupied = [
            pod
            for pod in pods
            if not is_finished(pod) and (not pod.is_deleting or spec["podReplacementPolicy"] == "Failed")
        ]
        wanted = spec.get("completions")
        left = spec["parallelism"] if wanted is None else wanted - status.get("succeeded", 0)
        count = min(spec["parallelism"], left) - len(occupied)
        deadline = self._deadline(live, status)
        look = deadline if deadline != float("inf") else None
        if count <= 0:
            return look
        wait = self._backoff(live, pods)
        if wait > 0:
            return min(wait, look) if look else wait
        taken = {_index(pod) for pod in occupied} | _indexes(status.get("completedIndexes", ""))
        free = [number for number in range(wanted or 0) if number not in taken]
        for number in range(count):
            index = free[number] if spec["completionMode"] == "Indexed" else None
            try:
                pod = self._make(live, index)
            except Refused as refused:
                self._events.record(live, "FailedCreate", f"Error creating: {refused}", warning=True)
                return 1.0
            self._events.record(live, "SuccessfulCreate", f"Created pod: {pod.name}")
        return look

    def _make(self, live: Stored, index: int | None) -> Stored:
        template = live.value["spec"]["template"]
        if index is None:
            return make_pod(self._server, live, template, finalizers=[TRACKING])
        spec = template["spec"]
        variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
        containers = [{**item, "env": [*(item.get("env") or ()), variable]} for item in spec["containers"]]
        return make_pod(
            self._server,
            live,
            template,
            finalizers=[TRACKING],
            labels={INDEX: str(index)},
            annotations={INDEX: str(index)},
            name=f"{live.name}-{index}-{self._server.suffix()}",
            spec={"hostname": f"{live.name}-{index}", "containers": containers},
        )

    def _backoff(self, live: Stored, pods: list[Stored]) -> float:
        """Seconds until the next pod may be made, longer after each failure in a row."""
        ends = sorted(
            _finished_at(pod, self._server)
            for pod in pods
            if phase(pod) == "Failed" and self._judge(live, pod)[0] != "Ignore"
        )
        if not ends:
            return 0.0
        wait = min(self._pace.job_backoff * 2 ** (len(ends) - 1), LONGEST_BACKOFF)
        return (ends[-1] + timedelta(seconds=wait) - self._server.time()).total_seconds()

    def _stop(self, live: Stored) -> None:
        for pod in pods_of(self._server, live):
            if is_active(pod):
                self._server.delete(pod.kind, pod.namespace, pod.name)

    def _expire(self, live: Stored, status: Mapping[str, Any]) -> float | None:
        seconds = live.value["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return None
        ended = datetime.fromisoformat(status["conditions"][-1]["lastTransitionTime"])
        left = (ended + timedelta(seconds=seconds) - self._server.time()).total_seconds()
        if left > 0:
            return left
        self._server.delete(self._kind, *live.key)
        return None


def _ended(status: Mapping[str, Any]) -> bool:
    return any(
        item["type"] in ("Complete", "Failed") and item["status"] == "True"
        for item in status.get("conditions") or ()
    )


def _exits(pod: Stored) -> list[tuple[str, int]]:
    """(container, exit code) of everything in the pod that has ended."""
    status = pod.value.get("status") or {}
    found = []
    for part in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(part) or ():
            ended = (item.get("state") or {}).get("terminated")
            if ended:
                found.append((item["name"], ended["exitCode"]))
    return found


def _failed_by_rule(live: Stored, pod: Stored, number: int) -> str:
    exits = [(name, code) for name, code in _exits(pod) if code]
    if not exits:
        return f"Pod {pod.namespace}/{pod.name} has condition matching FailJob rule at index {number}"
    name, code = exits[0]
    where = f"Container {name} for pod {pod.namespace}/{pod.name}"
    return f"{where} failed with exit code {code} matching FailJob rule at index {number}"


def _finished_at(pod: Stored, server: Server) -> datetime:
    status = pod.value.get("status") or {}
    ends = [
        (item.get("state") or {}).get("terminated", {}).get("finishedAt")
        for item in status.get("containerStatuses") or ()
    ]
    times = [datetime.fromisoformat(end) for end in ends if end]
    return max(times, default=datetime.fromisoformat(pod.metadata["creationTimestamp"]))


def _index(pod: Stored) -> int | None:
    text = (pod.metadata.get("annotations") or {}).get(INDEX)
    return None if text is None else int(text)


def _indexes(text: str) -> set[int]:
    """0,2-4 -> {0, 2, 3, 4}"""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _written(indexes: set[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(indexes):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
