"""Plans what to do on a cluster: the difference between the objects wanted and the objects seen. Pure.

What is wanted during a rollout, a pause or a deletion is decided by `serving` and `tuning`; here it is only a
list of manifests. Whatever of the resource's is not on the list goes away, and so do pods that an object has
left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from deployments.clusters.ownership import edited
from deployments.clusters.port import (
    POD_KINDS,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    Manifest,
    ObjectRef,
    Observation,
    ObservedObject,
)


class Action(StrEnum):
    APPLY = "apply"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call to the cluster, and why it is made."""

    action: Action
    ref: ObjectRef
    reason: str
    manifest: Manifest | None = field(default=None, repr=False)
    """What to apply; None for a deletion."""
    creates: bool = False
    """Whether the object is not there yet: then its namespace may not be either."""

    def __str__(self) -> str:
        return f"{self.action} {self.ref}: {self.reason}"


def plan_steps(wanted: Sequence[Manifest], seen: Observation, *, unwanted: str) -> tuple[Step, ...]:
    """Steps that lead from `seen` to `wanted`, in the order to take them; none when there is nothing to do.

    `unwanted` says why anything else of the resource has to go. Applying comes before deleting, so that a
    replacement exists before what it replaces is taken away.
    """
    present = {item.ref: item for item in seen.objects}
    own = {ObjectRef.of(manifest): manifest for manifest in wanted}

    applies = [
        Step(action=Action.APPLY, ref=ref, reason=reason, manifest=manifest, creates=ref not in present)
        for ref, manifest in own.items()
        if (reason := _reason_to_apply(manifest, present.get(ref)))
    ]
    deletes = [
        Step(action=Action.DELETE, ref=item.ref, reason=unwanted)
        for item in seen.objects
        # An object that is going already needs no second request: its finalizers or its grace period hold it.
        if item.ref not in own and item.deleting_since is None
    ]
    return (*applies, *deletes, *_ends(wanted, seen))


def _ends(wanted: Sequence[Manifest], seen: Observation) -> list[Step]:
    """Ends pods that outlive what they were made for, as after `kubectl delete --cascade=orphan`.

    A Deployment that is made again takes its pods back. A Job does not, so its pods would run beside those of
    the next one.
    """
    makers: dict[int | None, set[str]] = {}
    for item in seen.objects:
        if item.ref.kind in POD_KINDS:
            makers.setdefault(item.revision, set()).add(item.uid if item.ref.kind == "Job" else "")
    coming = {
        _revision(manifest)
        for manifest in wanted
        if manifest["kind"] in POD_KINDS and not _runs_once(manifest)
    }
    found: dict[ObjectRef, Step] = {}
    for pod in seen.pods:
        kept_by = makers.get(pod.revision, set())
        kept = pod.revision in coming or "" in kept_by or pod.owner in kept_by
        if kept or pod.deleting_since is not None:
            continue
        for ref in pod.ends_with:
            found[ref] = Step(action=Action.DELETE, ref=ref, reason="what it was made for is gone")
    # First what would make a pod anew.
    return sorted(found.values(), key=lambda step: step.ref.kind == "Pod")


def _revision(manifest: Manifest) -> int | None:
    label = manifest["metadata"]["labels"].get(REVISION_LABEL)
    return None if label is None else int(label)


def _reason_to_apply(manifest: Manifest, seen: ObservedObject | None) -> str:
    """Why the object has to be applied; empty if it does not."""
    if seen is None:
        return "it is not there"
    if seen.deleting_since is not None:
        # Applying would only change an object on its way out. The next look finds it gone and creates it.
        return ""
    if seen.spec_hash != manifest["metadata"]["annotations"][SPEC_HASH_ANNOTATION]:
        # Kubernetes refuses to change a Job's pods: what was started runs to its end.
        return "" if _runs_once(manifest) else "it is not as wanted"
    return edited(manifest, seen)


def _runs_once(manifest: Manifest) -> bool:
    serves = REVISION_LABEL in manifest["metadata"]["labels"]
    return manifest["kind"] == "Job" or (manifest["kind"] == "IPUJob" and not serves)
