"""What clusters write about pods that they cannot place or may not create, as numbers. Pure.

The sentences are Kubernetes': of its scheduler ("0/5 nodes are available: 3 Insufficient nvidia.com/gpu, …",
pkg/scheduler/framework/types.go, FitError) and of its quota admission ("exceeded quota: …",
apiserver/pkg/admission/plugin/resourcequota). Words may change between releases: what is not understood is
left out of the numbers and stays in the sentence, which is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NODES = re.compile(r"(\d+)/(\d+) nodes are available")
_SHORT = re.compile(r"(\d+) Insufficient ([\w./-]*\w)")
_OTHER_KIND = re.compile(r"(\d+) node\(s\) didn't match Pod's node affinity/selector")
_TAINTED = re.compile(r"(\d+) node\(s\) had untolerated taints?")
_CLOSED = re.compile(r"(\d+) node\(s\) were (?:unschedulable|not ready|unreachable)")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found|unbound immediate PersistentVolumeClaims')
_QUOTA = re.compile(r"exceeded quota: [^,]+, requested: (.+?), used: (.+?), limited: (\S+)")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why no node takes a pod, in nodes."""

    nodes: int
    """Looked at."""
    short: Mapping[str, int] = field(default_factory=dict)
    """Resource name -> nodes that have too little of it free."""
    other_kind: int = 0
    """Whose labels do not match what was chosen."""
    tainted: int = 0
    """That keep pods of this kind away."""
    closed: int = 0
    """That take no pods now, or do not report."""
    lacks_volume: bool = False
    """A volume that the pod mounts is not there."""


@dataclass(frozen=True, kw_only=True)
class QuotaExcess:
    """One resource of which a namespace may not have so much. Amounts as Kubernetes writes them."""

    resource: str
    requested: str
    used: str
    limited: str


def read_verdict(message: str) -> Verdict | None:
    """The scheduler's sentence in numbers; None if it is not one."""
    # What follows tells of preemption, about the same nodes once more.
    message = message.partition("preemption:")[0]
    nodes = _NODES.search(message)
    if nodes is None:
        return None
    short: dict[str, int] = {}
    for count, resource in _SHORT.findall(message):
        short[resource] = short.get(resource, 0) + int(count)
    return Verdict(
        nodes=int(nodes[2]),
        short=short,
        other_kind=_sum(_OTHER_KIND, message),
        tainted=_sum(_TAINTED, message),
        closed=_sum(_CLOSED, message),
        lacks_volume=_CLAIM.search(message) is not None,
    )


def read_quota(message: str) -> tuple[QuotaExcess, ...]:
    """The resources that a refused object would take too much of; empty if that is not why."""
    found = _QUOTA.search(message)
    if found is None:
        return ()
    requested, used, limited = (_amounts(part) for part in found.groups())
    return tuple(
        QuotaExcess(
            resource=resource.removeprefix("requests.").removeprefix("limits."),
            requested=amount,
            used=used.get(resource, ""),
            limited=limited.get(resource, ""),
        )
        for resource, amount in requested.items()
    )


def _sum(pattern: re.Pattern[str], message: str) -> int:
    return sum(int(count) for count in pattern.findall(message))


def _amounts(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.rstrip(".").split(",") if "=" in part)
