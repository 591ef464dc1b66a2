"""Takes a workload away: a small machine of its own. Pure.

It needs the id, the wish and what the cluster shows, and nothing of what the workload was made from: no
revision, no specification, no recipe, no site. So nothing that is missing or broken there can keep a workload
alive.

1. Whatever of the resource is seen and not on its way out is asked to go. Billing ended at the request.
2. What is left is kept as an inventory, with the finalizers of others that hold it.
3. At the deadline the condition DeletionStuck says what holds it and who has to act; it is tried on for good.
4. Once nothing is seen, it is gone. Only then is a receipt issued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from deployments.clusters.port import Observation
from deployments.reconcile.conditions import Condition, Problem, reconciled
from deployments.reconcile.decision import DeletionRecord, Happening
from deployments.reconcile.steps import Step, plan_steps

STUCK = "DeletionStuck"
"""Type of the condition, and reason of the event."""
VOLUMES = ("PersistentVolume", "PersistentVolumeClaim")
WINDOW = timedelta(minutes=10)
"""Where nobody has said how long a deletion may take."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The deletion as it was asked for, and what is recorded of it. Times are timezone-aware."""

    requested_at: datetime
    deadline: datetime
    inventory: Sequence[Mapping[str, Any]] = ()
    """As `Deleting.inventory`, from the look before."""
    stuck_at: datetime | None = None
    gone_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Deleting:
    """Where a deletion is."""

    is_gone: bool
    steps: tuple[Step, ...]
    conditions: tuple[Condition, ...]
    record: DeletionRecord | None
    """What is new about it; None if nothing is."""
    happenings: tuple[Happening, ...] = ()
    inventory: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """What is left: {"kind", "name", "going_since", "finalizers", "node"}; kinds are object, pod, volume."""


def decide_deletion(
    asked: Asked,
    seen: Observation,
    *,
    now: datetime,
    problem: Problem | None = None,
    noun: str = "deployment",
) -> Deleting:
    """What to do next, and what to say. `problem`: what the last attempt ran into."""
    inventory = tuple(inventory_of(seen))
    steps = plan_steps((), seen, unwanted=f"the {noun} is deleted")
    deadline = asked.deadline
    columns: dict[str, Any] = {}
    if list(inventory) != list(asked.inventory):
        columns |= {"inventory": list(inventory), "inventory_at": now}
        if asked.gone_at is not None and inventory and not asked.inventory:
            # Somebody made it anew, long after it was gone: it has as much time to go as before.
            deadline = now + (asked.deadline - asked.requested_at)
            columns["deadline"] = deadline
    is_gone = seen.is_empty
    stuck = not is_gone and now >= deadline
    if is_gone and asked.gone_at is None:
        columns["gone_at"] = now
    if stuck != (asked.stuck_at is not None):
        columns["stuck_at"] = now if stuck else None
    message = "Nothing of it is left on the cluster." if is_gone else what_is_left(inventory)
    conditions = [
        Condition(type="Ready", holds=False, reason="Deleted" if is_gone else "Deleting", message=message)
    ]
    happenings: tuple[Happening, ...] = ()
    alert = ""
    if stuck:
        conditions.append(stuck_condition(inventory, problem=problem))
        if asked.stuck_at is None:
            alert = conditions[-1].message
            happenings = (Happening(reason=STUCK, message=alert),)
    if is_gone:
        conditions.append(reconciled(None))
    elif problem is not None:
        conditions.append(reconciled(problem))
    return Deleting(
        is_gone=is_gone,
        steps=steps,
        conditions=tuple(conditions),
        record=DeletionRecord(columns=columns, alert=alert) if columns else None,
        happenings=happenings,
        inventory=inventory,
    )


def decide_unseen(asked: Asked, *, now: datetime, problem: Problem) -> Deleting:
    """The same for a cluster that cannot be looked at: nothing is known, so nothing is gone."""
    stuck = now >= asked.deadline
    words = f"What is left is not known. {problem.message}"
    conditions = [Condition(type="Ready", holds=False, reason="Deleting", message=words)]
    record: DeletionRecord | None = None
    happenings: tuple[Happening, ...] = ()
    if stuck:
        message = f"Not gone by its deadline. {words} The provider has to mend this; we keep trying."
        conditions.append(Condition(type=STUCK, holds=True, reason=problem.reason, message=message))
        if asked.stuck_at is None:
            record = DeletionRecord(columns={"stuck_at": now}, alert=message)
            happenings = (Happening(reason=STUCK, message=message),)
    return Deleting(
        is_gone=False,
        steps=(),
        conditions=(*conditions, reconciled(problem)),
        record=record,
        happenings=happenings,
    )


def inventory_of(seen: Observation) -> list[dict[str, Any]]:
    """Everything that is left, as JSON, in the order of names."""
    objects = [
        {
            "kind": "volume" if item.ref.kind in VOLUMES else "object",
            "name": str(item.ref),
            "going_since": _text(item.deleting_since),
            "finalizers": foreign(item.finalizers),
            "node": "",
        }
        for item in seen.objects
    ]
    pods = [
        {
            "kind": "pod",
            "name": f"Pod {pod.namespace}/{pod.name}",
            "going_since": _text(pod.deleting_since),
            "finalizers": foreign(pod.finalizers),
            "node": pod.node,
        }
        for pod in seen.pods
    ]
    return sorted(objects + pods, key=lambda item: (str(item["kind"]), str(item["name"])))


def foreign(finalizers: Sequence[str]) -> list[str]:
    """Those that are not Kubernetes' own: somebody else's program has to take them away."""
    return sorted(name for name in finalizers if "/" in name and not _is_kubernetes(name.partition("/")[0]))


def _is_kubernetes(domain: str) -> bool:
    return domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))


def holders_of(inventory: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who holds what since when: {"finalizer", "owner", "object", "since"}."""
    return [
        {
            "finalizer": finalizer,
            "owner": finalizer.partition("/")[0],
            "object": item["name"],
            "since": item["going_since"],
        }
        for item in inventory
        for finalizer in item["finalizers"]
    ]


def what_is_left(inventory: Sequence[Mapping[str, Any]]) -> str:
    """The inventory as a sentence."""
    counts = [
        (sum(item["kind"] == kind for item in inventory), noun)
        for kind, noun in (("pod", "replica"), ("object", "object"), ("volume", "volume"))
    ]
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count]
    held = sorted({holder["finalizer"] for holder in holders_of(inventory)})
    holding = f"; held by {', '.join(held)}" if held else ""
    return f"Still on the cluster: {' and '.join(parts)}{holding}."


def stuck_condition(inventory: Sequence[Mapping[str, Any]], *, problem: Problem | None) -> Condition:
    """What holds a deletion that is past its deadline, and who has to act: the provider, every time."""
    holders = holders_of(inventory)
    if holders:
        first = holders[0]
        others = f" (and {len(holders) - 1} more)" if len(holders) > 1 else ""
        reason = "ForeignFinalizer"
        words = (
            f"{first['object']} is held by the finalizer {first['finalizer']} since {first['since']}"
            f"{others}: whatever runs for {first['owner']} on the cluster has to let it go."
        )
    elif problem is not None:
        reason, words = problem.reason, problem.message
    else:
        oldest = min(inventory, key=lambda item: str(item["going_since"] or "~"))
        where = f" on node {oldest['node']}, which may be lost," if oldest["node"] else ""
        reason = "PodDoesNotEnd" if oldest["kind"] == "pod" else "ObjectDoesNotGo"
        words = f"{oldest['name']}{where} was asked to go at {oldest['going_since']} and is still there."
    return Condition(
        type=STUCK,
        holds=True,
        reason=reason,
        message=f"Not gone by its deadline. {words} The provider has to mend this; we keep trying, and "
        "nothing of it is billed.",
    )


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
