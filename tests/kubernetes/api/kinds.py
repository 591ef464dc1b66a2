"""The kinds that the stand-in serves: rows of a table, and CustomResourceDefinitions made at run time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.api.schema import Node, builtin, custom


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One kind of object."""

    group: str
    version: str
    kind: str
    plural: str
    schema: Node = field(repr=False)
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    short: tuple[str, ...] = ()
    counts_generations: bool = False
    """metadata.generation grows with every change of the spec."""
    validation: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """JSON schema of a custom resource; empty for Kubernetes' own kinds."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()


_ROWS: tuple[tuple[str, str, str, str, str, str], ...] = (
    # group, version, kind, plural, short names, flags: c cluster-wide, s status, l scale, g generations,
    # o log, b binding, e eviction
    ("", "v1", "Namespace", "namespaces", "ns", "cs"),
    ("", "v1", "Node", "nodes", "no", "cs"),
    ("", "v1", "Pod", "pods", "po", "sglbe"),
    ("", "v1", "Service", "services", "svc", "s"),
    ("", "v1", "Secret", "secrets", "", ""),
    ("", "v1", "ConfigMap", "configmaps", "cm", ""),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", ""),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", "s"),
    ("", "v1", "LimitRange", "limitranges", "limits", ""),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", "cs"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "s"),
    ("", "v1", "Event", "events", "ev", ""),
    ("", "v1", "Endpoints", "endpoints", "ep", ""),
    ("apps", "v1", "Deployment", "deployments", "deploy", "sgl"),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", "sgl"),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", "sgl"),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", "sg"),
    ("batch", "v1", "Job", "jobs", "", "sg"),
    ("batch", "v1", "CronJob", "cronjobs", "cj", "sg"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", "sg"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "s"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", "g"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", "ing", "sg"),
    ("coordination.k8s.io", "v1", "Lease", "leases", "", ""),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", "g"),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", "c"),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", "c"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", ""),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", ""),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", "c"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", "c"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd", "csg"),
)
_SUBRESOURCES = {"s": ("status",), "l": ("scale",), "b": ("binding", "log"), "e": ("eviction",)}
_PACKAGES = {
    "": "io.k8s.api.core",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}
"""Where the published definitions of a group are, when not in io.k8s.api.<first word of the group>."""


def _row(group: str, version: str, kind: str, plural: str, short: str, flags: str) -> Kind:
    package = _PACKAGES.get(group, f"io.k8s.api.{group.partition('.')[0]}")
    subresources = {name for flag in flags for name in _SUBRESOURCES.get(flag, ())}
    return Kind(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        schema=builtin(f"{package}.{version}.{kind}"),
        namespaced="c" not in flags,
        subresources=frozenset(subresources - ({"scale"} if kind == "Pod" else set())),
        short=(short,) if short else (),
        counts_generations="g" in flags,
    )


class Kinds:
    """The kinds of one server."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        self._by_name: dict[tuple[str, str], Kind] = {}
        for row in _ROWS:
            self.add(_row(*row))

    def add(self, kind: Kind) -> None:
        self._by_path[kind.group, kind.version, kind.plural] = kind
        self._by_name[kind.api_version, kind.kind] = kind

    def remove(self, kind: Kind) -> None:
        del self._by_path[kind.group, kind.version, kind.plural]
        del self._by_name[kind.api_version, kind.kind]

    def at(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def named(self, api_version: str, kind: str) -> Kind | None:
        return self._by_name.get((api_version, kind))

    def __getitem__(self, kind: str) -> Kind:
        """By the kind's name alone; for Kubernetes' own kinds that is clear enough."""
        return next(item for item in self if item.kind == kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_path.values())


def custom_kinds(definition: Mapping[str, Any]) -> list[Kind]:
    """The kinds that a CustomResourceDefinition stands for, one a served version."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Kind(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            schema=custom((version.get("schema") or {}).get("openAPIV3Schema") or {}),
            namespaced=spec["scope"] == "Namespaced",
            subresources=frozenset(version.get("subresources") or ()),
            short=tuple(names.get("shortNames") or ()),
            counts_generations=True,
            validation=(version.get("schema") or {}).get("openAPIV3Schema") or {},
        )
        for version in spec["versions"]
        if version.get("served")
    ]
