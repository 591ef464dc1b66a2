"""The scheduler: binds pods to nodes, or says in Kubernetes' words, with numbers, why it cannot.

A node is asked in the order of Kubernetes' filters, and the first that fails speaks for it: unschedulable,
taints, selector and affinity, then resources, of which all that are short are named. Among the nodes that fit
the one with the most free is taken, by name where that is equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from deployments.clusters.quantities import parse
from tests.kubernetes.api.quotas import pod_amounts
from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.pods import condition, is_finished, with_condition
from tests.kubernetes.controllers.recording import Recorder

MANAGER = "kube-scheduler"
ALL_PODS = "waiting pods"
_TAINT = "node(s) had untolerated taint(s)"
_CORDON = "node(s) were unschedulable"
_SELECTOR = "node(s) didn't match Pod's node affinity/selector"
_HELPLESS = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


@dataclass
class Room:
    """What one node has and what is taken of it."""

    node: Stored
    taken: Counter[str] = field(default_factory=Counter)

    @property
    def allocatable(self) -> Mapping[str, Any]:
        status = self.node.value.get("status") or {}
        return status.get("allocatable") or status.get("capacity") or {}


class Scheduler:
    """Finds a node for every pod that has none."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pods, self._nodes = server.kinds["Pod"], server.kinds["Node"]
        self._events = Recorder(server, "default-scheduler")
        self._rooms: dict[str, Room] = {}
        self._needs: dict[str, tuple[str, dict[str, Decimal]]] = {}
        """What each bound pod (uid) takes, and where."""
        self._waiting: dict[tuple[str, str], None] = {}

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._nodes:
            self._note_node(there.name, change.after)
            return [ALL_PODS] if self._waiting and _matters(change) else []
        if change.kind is self._pods:
            freed = self._note_pod(there, gone=change.after is None)
            keys: list[Hashable] = []
            if _wants_a_node(there) and change.after is not None:
                if change.before is None or condition(change.before.value, "PodScheduled") == condition(
                    there.value, "PodScheduled"
                ):
                    keys.append(there.key)
                self._waiting[there.key] = None
            else:
                self._waiting.pop(there.key, None)
            if freed and self._waiting:
                keys.append(ALL_PODS)
            return keys
        if change.kind.kind == "PersistentVolumeClaim" and self._waiting:
            return [ALL_PODS]
        return []

    def _note_node(self, name: str, node: Stored | None) -> None:
        if node is None:
            self._rooms.pop(name, None)
        elif name in self._rooms:
            self._rooms[name].node = node
        else:
            self._rooms[name] = Room(node)
            for where, needs in self._needs.values():
                if where == name:
                    self._rooms[name].taken.update(needs)  # type: ignore[arg-type]

    def _note_pod(self, pod: Stored, *, gone: bool) -> bool:
        """Keeps the books. Returns whether something was freed."""
        node = pod.value["spec"].get("nodeName", "")
        over = gone or is_finished(pod)
        if node and not over and pod.uid not in self._needs:
            needs = pod_needs(pod.value["spec"])
            self._needs[pod.uid] = node, needs
            if node in self._rooms:
                self._rooms[node].taken.update(needs)  # type: ignore[arg-type]
        elif over and pod.uid in self._needs:
            where, needs = self._needs.pop(pod.uid)
            if where in self._rooms:
                self._rooms[where].taken.subtract(needs)  # type: ignore[arg-type]
            return True
        return False

    def reconcile(self, key: Hashable) -> float | None:
        if key == ALL_PODS:
            pods = [self._server.store.get(self._pods, *item) for item in list(self._waiting)]
            waiting = [pod for pod in pods if pod is not None]
            waiting.sort(key=lambda pod: (-_priority(pod), pod.metadata["creationTimestamp"], pod.name))
        else:
            pod = self._server.store.get(self._pods, *key)  # type: ignore[misc]
            waiting = [pod] if pod is not None else []
        for pod in waiting:
            if _wants_a_node(pod):
                self._schedule(pod)
        return None

    def _schedule(self, pod: Stored) -> None:
        spec = pod.value["spec"]
        needs = pod_needs(spec)
        why = self._claims_problem(pod)
        reasons: Counter[str] = Counter()
        helpless = 0
        best: tuple[Decimal, str] | None = None
        for name, room in sorted(self._rooms.items()):
            if why:
                break
            found, lasting = obstacles(spec, needs, room)
            reasons.update(found)
            helpless += lasting
            if not found:
                score = (_fullness(room, needs), name)
                best = min(best, score) if best else score
        if best:
            bound = self._server.bind(pod, node=best[1])
            message = f"Successfully assigned {pod.namespace}/{pod.name} to {best[1]}"
            self._events.record(bound, "Scheduled", message)
            return
        self._refuse(pod, why or _message(len(self._rooms), reasons, helpless))

    def _refuse(self, pod: Stored, message: str) -> None:
        status = pod.value.get("status") or {}
        conditions = with_condition(
            self._server,
            status.get("conditions") or (),
            "PodScheduled",
            "False",
            reason="Unschedulable",
            message=message,
        )
        if condition(pod.value, "PodScheduled").get("message") == message:
            return
        pod = self._server.set_status(pod, {**status, "conditions": conditions}, manager=MANAGER)
        self._events.record(pod, "FailedScheduling", message, warning=True)

    def _claims_problem(self, pod: Stored) -> str:
        kind = self._server.kinds["PersistentVolumeClaim"]
        total = len(self._rooms)
        for volume in pod.value["spec"].get("volumes") or ():
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if not name:
                continue
            claim = self._server.store.get(kind, pod.namespace, name)
            if claim is None:
                return f'0/{total} nodes are available: persistentvolumeclaim "{name}" not found. not found'
            if (claim.value.get("status") or {}).get("phase") != "Bound":
                why = "pod has unbound immediate PersistentVolumeClaims"
                return f"0/{total} nodes are available: {why}. not found"
        return ""


def obstacles(spec: Mapping[str, Any], needs: Mapping[str, Decimal], room: Room) -> tuple[list[str], bool]:
    """(why the pod cannot go to the node, whether no pod there could make room for it)."""
    node = room.node.value
    node_spec = node.get("spec") or {}
    tolerations = spec.get("tolerations") or ()
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if node_spec.get("unschedulable") and not tolerates(tolerations, cordon):
        return [_CORDON], True
    for taint in node_spec.get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not tolerates(tolerations, taint):
            return [_TAINT], True
    labels = {**(node["metadata"].get("labels") or {}), "metadata.name": node["metadata"]["name"]}
    if not matches_node(spec, labels):
        return [_SELECTOR], True
    short, lasting = [], False
    for name, need in sorted(needs.items()):
        total = parse(room.allocatable.get(name, 0))
        if need > total - Decimal(room.taken[name]):
            short.append("Too many pods" if name == "pods" else f"Insufficient {name}")
            lasting |= need > total
    return short, lasting


def tolerates(tolerations: Sequence[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether one of the tolerations covers the taint."""
    for item in tolerations:
        if item.get("effect") not in (None, "", taint["effect"]):
            continue
        if item.get("operator", "Equal") == "Exists":
            if item.get("key") in (None, "", taint["key"]):
                return True
        elif item.get("key") == taint["key"] and item.get("value", "") == taint.get("value", ""):
            return True
    return False


def matches_node(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """nodeSelector and required node affinity."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(
        all(
            _matches(labels, rule)
            for rule in (*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ()))
        )
        for term in required["nodeSelectorTerms"]
    )


def _matches(labels: Mapping[str, str], rule: Mapping[str, Any]) -> bool:
    value, values = labels.get(rule["key"]), rule.get("values") or ()
    operator = rule["operator"]
    if operator in ("Gt", "Lt"):
        if value is None or not value.lstrip("-").isdigit():
            return False
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    answers = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return answers[operator]


def pod_needs(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod claims of a node, itself as one of its pods."""
    return {**pod_amounts(spec, "requests"), "pods": Decimal(1)}


def _message(total: int, reasons: Counter[str], helpless: int) -> str:
    if not total:
        return "no nodes available to schedule pods"
    texts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    victims = total - helpless
    preemption = [f"{victims} {_NO_VICTIMS}"] if victims else []
    preemption += [f"{helpless} {_HELPLESS}"] if helpless else []
    head = f"0/{total} nodes are available"
    return f"{head}: {texts}. no new claims to deallocate, preemption: {head}: {', '.join(preemption)}."


def _fullness(room: Room, needs: Mapping[str, Decimal]) -> Decimal:
    """The largest share of a resource that would be taken."""
    shares = [
        (Decimal(room.taken[name]) + need) / total
        for name, need in needs.items()
        if (total := parse(room.allocatable.get(name, 0)))
    ]
    return max(shares, default=Decimal())


def _wants_a_node(pod: Stored) -> bool:
    spec = pod.value["spec"]
    return (
        not spec.get("nodeName")
        and not pod.is_deleting
        and not is_finished(pod)
        and not spec.get("schedulingGates")
    )


def _priority(pod: Stored) -> int:
    return int(pod.value["spec"].get("priority") or 0)


def _matters(change: Change) -> bool:
    """Whether a node changed in a way that could let a pod in: a heartbeat does not."""
    if change.before is None or change.after is None:
        return change.after is not None
    before, after = change.before.value, change.after.value
    return (
        before.get("spec") != after.get("spec")
        or before["metadata"].get("labels") != after["metadata"].get("labels")
        or (before.get("status") or {}).get("allocatable") != (after.get("status") or {}).get("allocatable")
    )
