"""Why a workload does not run, as customers read it: what the reconciler stored, with what only the moment of
asking knows: free capacity, the organization's quota, and actions with their price.

The actions come from sources that are registered when apps are ready: planning knows ways out, and this
module does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deployments.clusters.capacity import known_nodes_of
from deployments.clusters.port import NodeCapacity
from deployments.serving.workload import Workload
from marketplace.billing.models import Quota

MOST_ACTIONS = 3

Document = dict[str, Any]
ActionSource = Callable[[Workload, Mapping[str, Any]], Sequence[Document]]
"""(workload, its explanation) -> actions, best first, as `serializers.ActionSerializer` shows them."""

_sources: list[ActionSource] = []


def register_actions(source: ActionSource) -> ActionSource:
    """Adds a source of actions; usable as a decorator. The same function again changes nothing."""
    if source not in _sources:
        _sources.append(source)
    return source


def unregister_actions(source: ActionSource) -> None:
    """Takes a source away, if it is there."""
    if source in _sources:
        _sources.remove(source)


def stored_explanation(workload: Workload) -> Document | None:
    """The explanation without what has to be looked up: for lists."""
    return {**workload.explanation, "actions": []} if workload.explanation else None


def live_explanation(workload: Workload) -> Document | None:
    """The explanation with numbers as of now and up to three actions."""
    document = stored_explanation(workload)
    if document is None:
        return None
    if document["numbers"]:
        nodes = known_nodes_of([workload.cluster.slug]).get(workload.cluster.slug)
        quota = _quota(workload)
        resource = workload.flavor.accelerator.resource_name or "cpu"
        document["numbers"] = [
            {
                **number,
                "free": number["free"] if number["free"] is not None else _free(nodes, number["name"]),
                "quota": quota if number["name"] == resource else number["quota"],
            }
            for number in document["numbers"]
        ]
    actions = [action for source in _sources for action in source(workload, document)]
    return {**document, "actions": actions[:MOST_ACTIONS]}


def _quota(workload: Workload) -> int | None:
    family = workload.flavor.accelerator.family
    found = Quota.objects.filter(organization_id=workload.organization_id, accelerator_family=family).first()
    return found.limit if found else None


def _free(nodes: Sequence[NodeCapacity] | None, resource: str) -> float | None:
    """The most that any one node has left of a resource, in the units of an explanation; None = not known."""
    if nodes is None:
        return None
    left = [
        node.allocatable[resource] - node.requested.get(resource, 0)
        for node in nodes
        if node.ready and resource in node.allocatable
    ]
    most = max(left, default=0)
    return max(0, most) / (1000 if resource == "cpu" else 1)
