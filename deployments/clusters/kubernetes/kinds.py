"""The kinds of objects that we have on a cluster, and how each is addressed and read. Data.

Secrets are not among what is observed: listing them would mean reading everybody's. Nothing that we deploy
needs one, and our account may not even make them (`access`); whoever grants that can apply and delete them.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.clusters.errors import ClusterRejected
from deployments.clusters.port import ObjectRef


@dataclass(frozen=True, kw_only=True)
class ObjectKind:
    """One kind of object."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    observed: bool = True
    shared: bool = False
    """Serves many resources, so it is no part of an observation of one."""
    has_status: bool = False
    """Its status is worth reading: it is listed whole. Of others the metadata says all."""
    optional: bool = False
    """Comes with an operator that a cluster may not have."""
    owns_pods: bool = False
    """Deleted in the foreground: it goes only after its pods."""
    grows: bool = False
    """Kubernetes itself writes parts of its specification: what we did not set is not somebody's edit."""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Where it is: all of the cluster without a namespace, all of a namespace without a name."""
        group = "/api" if "/" not in self.api_version else "/apis"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{group}/{self.api_version}{inside}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        return self.api_version.rpartition("/")[0]


NAMESPACE = ObjectKind(
    api_version="v1", kind="Namespace", plural="namespaces", namespaced=False, shared=True, grows=True
)
POD = ObjectKind(api_version="v1", kind="Pod", plural="pods", has_status=True)
REPLICA_SET = ObjectKind(api_version="apps/v1", kind="ReplicaSet", plural="replicasets", observed=False)
"""Kubernetes makes it between a Deployment and its pods. Of ours only when somebody has left it behind."""
NODE = ObjectKind(api_version="v1", kind="Node", plural="nodes", namespaced=False, observed=False)
EVENT = ObjectKind(api_version="v1", kind="Event", plural="events", observed=False)

KINDS = (
    NAMESPACE,
    ObjectKind(
        api_version="apps/v1", kind="Deployment", plural="deployments", has_status=True, owns_pods=True
    ),
    ObjectKind(api_version="batch/v1", kind="Job", plural="jobs", has_status=True, owns_pods=True),
    ObjectKind(
        api_version="graphcore.ai/v1alpha1",
        kind="IPUJob",
        plural="ipujobs",
        has_status=True,
        optional=True,
        owns_pods=True,
        grows=True,
    ),
    ObjectKind(api_version="v1", kind="Service", plural="services"),
    ObjectKind(api_version="policy/v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets"),
    ObjectKind(
        api_version="v1",
        kind="PersistentVolumeClaim",
        plural="persistentvolumeclaims",
        has_status=True,
        grows=True,
    ),
    ObjectKind(api_version="v1", kind="ConfigMap", plural="configmaps", observed=False),
    ObjectKind(api_version="networking.k8s.io/v1", kind="NetworkPolicy", plural="networkpolicies"),
    ObjectKind(api_version="v1", kind="ResourceQuota", plural="resourcequotas", has_status=True, shared=True),
    ObjectKind(api_version="v1", kind="LimitRange", plural="limitranges", shared=True),
    ObjectKind(
        api_version="v1",
        kind="PersistentVolume",
        plural="persistentvolumes",
        namespaced=False,
        has_status=True,
        shared=True,
        grows=True,
    ),
    ObjectKind(api_version="v1", kind="Secret", plural="secrets", observed=False),
    ObjectKind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts", observed=False),
)
"""In the order in which they are observed."""

_BY_NAME = {(kind.api_version, kind.kind): kind for kind in (*KINDS, POD, REPLICA_SET)}


def kind_of(ref: ObjectRef) -> ObjectKind:
    """The kind of an object. Raises ClusterRejected for one that we never make."""
    try:
        return _BY_NAME[ref.api_version, ref.kind]
    except KeyError:
        known = ", ".join(sorted(kind.kind for kind in KINDS))
        raise ClusterRejected(
            f"{ref}: {ref.api_version} {ref.kind} is not one of the kinds that we apply: {known}",
            field="kind",
        ) from None
