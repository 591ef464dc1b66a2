"""The cluster port: what the reconciler needs of a cluster, and nothing more.

Manifests are Kubernetes objects as plain dicts. An implementation applies them idempotently (server-side
apply, one field manager), reports what is there as values, and translates every library error into the
two families of `deployments.clusters.errors` at this border.

Objects carry the labels below. `RESOURCE_LABEL` is the public id of the row that wants the object, so a
list by `MANAGED_BY_LABEL` finds everything of ours, rows or no rows.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

Manifest = Mapping[str, Any]
"""One Kubernetes object: apiVersion, kind, metadata and the rest."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "marketplace"
FIELD_MANAGER = "marketplace"
RESOURCE_LABEL = "marketplace/resource"
"""Public id of the deployment or fine-tuning job, for example dep_01jz…"""
REVISION_LABEL = "marketplace/revision"
"""Number of the revision that the object belongs to."""
POD_KINDS = frozenset({"Deployment", "Job", "IPUJob"})
"""Kinds of our objects that pods are made for."""
SPEC_HASH_ANNOTATION = "marketplace/spec-hash"
"""Hash of the manifest as we wanted it; differs = apply again."""


@dataclass(frozen=True, order=True)
class ObjectRef:
    """Names one object of a cluster."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> ObjectRef:
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class ObservedObject:
    """One of our objects (not a pod) as the cluster shows it."""

    ref: ObjectRef
    uid: str
    resource: str
    """Value of RESOURCE_LABEL; empty for what serves many rows, as a namespace does."""
    revision: int | None
    spec_hash: str
    deleting_since: datetime | None = None  # timezone-aware
    finalizers: tuple[str, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    """The object's own status block: readyReplicas of a Deployment, succeeded and failed of a Job."""
    fields: Mapping[str, Any] | None = field(default=None, repr=False)
    """Of the fields that we applied those that nobody has changed since, as `deployments.clusters.ownership`
    shows them; None where nobody but us can change objects."""
    changed_by: str = ""
    """Who else has set fields of what the object is, for example kubectl-edit; empty: nobody."""


@dataclass(frozen=True, kw_only=True)
class ObservedPod:
    """The facts of one pod. Times are timezone-aware and come from the cluster, never from our clock."""

    uid: str
    name: str
    namespace: str
    resource: str
    revision: int | None
    phase: str
    """Pending, Running, Succeeded or Failed."""
    created_at: datetime
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    """The first start of the main container, kept over restarts."""
    ready_at: datetime | None = None
    """The first time the pod was ready, kept over restarts."""
    finished_at: datetime | None = None
    """When the last container of a pod that will not run again ended."""
    ready: bool = False
    ready_changed_at: datetime | None = None
    """When `ready` last changed; None as long as the pod has never been ready."""
    node: str = ""
    address: str = ""
    """host:port where the main container listens; empty until the pod has an address."""
    restarts: int = 0
    """Of the main container, or of `init_container` as long as there is one."""
    exit_code: int | None = None
    """Of the last container that ended, the main one or `init_container`."""
    reason: str = ""
    """Kubernetes' word: Unschedulable, ErrImagePull, CrashLoopBackOff, OOMKilled, Error, Completed…"""
    message: str = ""
    init_container: str = ""
    """Name of the init container that runs or has failed; empty once all have passed, and without any."""
    image_pulled_at: datetime | None = None
    """By when the image was on the node: the first start of any of its containers, init ones included."""
    weights_done_at: datetime | None = None
    """When the init container `weights` passed; None before, and without one."""
    last_end_at: datetime | None = None
    """When the newest run of the main container that ended did so; kept while the next one runs."""
    last_run_at: datetime | None = None
    """When that run had begun."""
    last_end_reason: str = ""
    """Kubernetes' word for that end: OOMKilled, Error, Completed; also while `reason` is CrashLoopBackOff."""
    deleting_since: datetime | None = None
    finalizers: tuple[str, ...] = ()
    owner: str = ""
    """uid of the controller that keeps it: the Job, or a ReplicaSet between it and the Deployment; empty
    without any."""
    ends_with: tuple[ObjectRef, ...] = ()
    """What has to be deleted, in this order, once the object that it was made for is gone and has left it
    behind; empty where the cluster itself ends such a pod."""


@dataclass(frozen=True, kw_only=True)
class ObservedEvent:
    """What a component of the cluster said of an object: the scheduler, a kubelet, a controller."""

    at: datetime
    """When it last happened, timezone-aware."""
    object: str
    """Kind and name, for example Pod dep-1-r1-abc."""
    reason: str
    """Kubernetes' word: FailedScheduling, Pulled, BackOff, Unhealthy…"""
    message: str
    warning: bool = False
    count: int = 1
    """How often."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Everything of ours on one cluster, or of one resource, at one moment."""

    objects: tuple[ObservedObject, ...] = ()
    pods: tuple[ObservedPod, ...] = ()

    def of(self, resource: str) -> Observation:
        """The part that belongs to one resource."""
        return Observation(
            objects=tuple(item for item in self.objects if item.resource == resource),
            pods=tuple(item for item in self.pods if item.resource == resource),
        )

    def within(self, namespaces: Collection[str]) -> Observation:
        """The part that is in the namespaces."""
        return Observation(
            objects=tuple(item for item in self.objects if item.ref.namespace in namespaces),
            pods=tuple(item for item in self.pods if item.namespace in namespaces),
        )

    @property
    def namespaces(self) -> frozenset[str]:
        """Those that anything of it is in; empty for what is in none."""
        return frozenset({item.ref.namespace for item in self.objects} | {it.namespace for it in self.pods})

    @property
    def resources(self) -> frozenset[str]:
        """Public ids of all that is there. What belongs to no row, as a namespace, has none."""
        return frozenset({item.resource for item in self.objects} | {item.resource for item in self.pods}) - {
            ""
        }

    @property
    def is_empty(self) -> bool:
        return not self.objects and not self.pods


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a container's output."""

    number: int
    """Position in the pod's log, from 1, over all restarts."""
    text: str


@dataclass(frozen=True, kw_only=True)
class NodeCapacity:
    """One node: what it has and what pods have already claimed, in Kubernetes' resource names."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    """cpu in millicores, memory in bytes, devices as counts."""
    requested: Mapping[str, int]
    ready: bool = True
    cordoned: bool = False
    """True: it takes no new pods (spec.unschedulable)."""
    taints: tuple[Mapping[str, str], ...] = ()
    """Kubernetes taints as the node has them: {"key", "value", "effect"}."""


class Cluster(Protocol):
    """One cluster. Every method may raise a `ClusterError`; each call is safe to repeat."""

    name: str

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        """What is there: of one resource, or (one list per kind, whatever the number of resources) of all.

        Of one that has nothing outside of `namespaces` it is looked for there alone, so that it does not cost
        more the more others there are. Without any: everywhere.
        """
        ...

    def apply(self, manifest: Manifest) -> None:
        """Makes the object be as given: creates or changes it. Does nothing if it already is."""
        ...

    def delete(self, ref: ObjectRef) -> None:
        """Asks for the object and what it owns to go away, pods within their grace period.

        Already gone is fine.
        """
        ...

    def logs(
        self,
        resource: str,
        *,
        namespaces: Collection[str] = (),
        pod: str | None = None,
        container: str = "",
        after: int = 0,
        limit: int = 1000,
        tail: bool = False,
    ) -> list[LogLine]:
        """Lines of a container of a pod (uid), or of the resource's newest pod, after line `after`.

        Of these the first `limit`, or with `tail` the last; the oldest first in either case. `container` is
        the name of an init container; empty = the main one. `namespaces` as for `observe`.
        """
        ...

    def events(self, resource: str, *, namespaces: Collection[str] = ()) -> list[ObservedEvent]:
        """What the cluster's components said of the resource's objects and pods, the oldest first.

        Clusters forget events after a while (Kubernetes after an hour): what has to last is recorded by us.
        """
        ...

    def watch(self, stop: threading.Event) -> Iterator[str]:
        """Public ids of resources that may have changed, until `stop` is set.

        May miss some: the sweep does not.
        """
        ...

    def nodes(self) -> list[NodeCapacity]:
        """The nodes, for capacity answers."""
        ...
