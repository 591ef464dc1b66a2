"""What our service accounts must be allowed to do on a cluster, each right with its reason. Data.

The chart's roles are compared with these rules, and the port is tested with an account that has no others.
Not among them: reading secrets, opening shells in pods, changing nodes, granting rights. What a policy of the
cluster should add, since RBAC cannot: that we write only in namespaces with our label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_LOOK = ("list",)
_FOLLOW = ("list", "watch")
_KEEP = ("create", "patch", "delete")
_END = ("delete",)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One right, cluster-wide: the namespaces that it is needed in come and go with organizations."""

    group: str
    """API group; empty for the core."""
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str


CONTROLLER = (
    Rule(
        group="",
        resources=("namespaces", "resourcequotas", "limitranges", "persistentvolumes"),
        verbs=(*_LOOK, *_KEEP),
        reason="What an organization's workloads share; compared by every sweep.",
    ),
    Rule(
        group="",
        resources=("services", "persistentvolumeclaims"),
        verbs=(*_FOLLOW, *_KEEP),
        reason="The address of a deployment; the volumes that workloads mount.",
    ),
    Rule(
        group="apps",
        resources=("deployments",),
        verbs=(*_FOLLOW, *_KEEP),
        reason="The pods of a served revision.",
    ),
    Rule(
        group="batch",
        resources=("jobs",),
        verbs=(*_FOLLOW, *_KEEP),
        reason="Fine-tuning.",
    ),
    Rule(
        group="policy",
        resources=("poddisruptionbudgets",),
        verbs=(*_FOLLOW, *_KEEP),
        reason="Drains of nodes leave a deployment serving.",
    ),
    Rule(
        group="networking.k8s.io",
        resources=("networkpolicies",),
        verbs=(*_FOLLOW, *_KEEP),
        reason="Who may call a model, and whom nobody may.",
    ),
    Rule(
        group="graphcore.ai",
        resources=("ipujobs",),
        verbs=(*_FOLLOW, *_KEEP),
        reason="Workloads on IPUs, where Graphcore's operator is installed.",
    ),
    Rule(
        group="",
        resources=("pods",),
        verbs=(*_FOLLOW, *_END),
        reason="The facts that states and bills come from; everybody's, to know what is free on a node. "
        "Deleted are those that were left behind.",
    ),
    Rule(
        group="apps",
        resources=("replicasets",),
        verbs=_END,
        reason="What makes pods anew that kubectl delete --cascade=orphan has left behind.",
    ),
    Rule(group="", resources=("pods/log",), verbs=("get",), reason="Logs, and the progress of training."),
    Rule(group="", resources=("events",), verbs=_LOOK, reason="Why something does not run."),
    Rule(
        group="",
        resources=("nodes",),
        verbs=("get", *_LOOK),
        reason="What is free, for plans; whether a node still answers, for logs.",
    ),
)
"""Of the worker, which reconciles, and of the watcher."""

READER = (
    Rule(group="", resources=("pods",), verbs=_LOOK, reason="To find the pod whose log is asked for."),
    Rule(group="", resources=("pods/log",), verbs=("get",), reason="Logs in the portal and by REST."),
    Rule(
        group="", resources=("nodes",), verbs=("get",), reason="Whether a log that fails went with its node."
    ),
)
"""Of web, which faces the internet: it shows logs and does nothing else on a cluster."""


def policy_rules(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The rules as a ClusterRole has them."""
    return [
        {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in rules
    ]
