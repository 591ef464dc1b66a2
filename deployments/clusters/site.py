"""What a provider says of one cluster besides how to reach it: where images and weights come from, who may
call models, how strictly pods are confined. Pure.

It is written in `Cluster.configuration`, in the admin or in a file of places:

    {"kubeconfig": "/etc/marketplace/kubeconfig", "context": "production", "installation": "marketplace",
     "image_registry": "registry.example/mirror",
     "storage": {"nfs": {"server": "10.0.0.5", "path": "/exports/marketplace"}},
     "cache": {"hostPath": {"path": "/var/cache/marketplace"}}, "cache_free_share": 0.15,
     "caller_namespaces": {"kubernetes.io/metadata.name": "marketplace"}, "caller_cidrs": [],
     "pod_security": "restricted", "runtime_class": "nvidia",
     "serving_priority_class": "models", "tuning_priority_class": "training",
     "workspace_storage_class": "fast"}

The folder of the cache has to be there on every node and to belong to user and group 10001, whom the pods
run as: Kubernetes changes the owner of no hostPath. A file system that several nodes share is brought each
version once for all of them.

The first three are for whoever opens the cluster; they are checked here too, so that a typing error in any
key is found when it is made. A local cluster has its storage, shares a machine and confines nothing: see
`LOCAL`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

STORAGE_CLAIM = "marketplace-storage"
"""The PersistentVolumeClaim with weights, datasets and outputs; STORAGE_ROOT on the local cluster."""
CACHE_CLAIM = "marketplace-cache"
"""The PersistentVolumeClaim of the cache of weights; there is none where the site names no cache."""

VOLUME_SOURCES: Mapping[str, tuple[str, ...]] = {
    "csi": ("driver", "volumeHandle"),
    "hostPath": ("path",),
    "nfs": ("server", "path"),
}
"""Sources of a PersistentVolume that many namespaces can mount at once -> what each must say."""
POD_SECURITY_LEVELS = ("restricted", "baseline", "privileged")
"""Kubernetes' Pod Security Standards, the strictest first."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_REGISTRY = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class SiteError(ValueError):
    """A cluster's configuration cannot be used. The message names the field, `field` too."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Site:
    """What manifests need to know of the cluster that they are for."""

    image_registry: str = ""
    """Stands before images that name no registry themselves."""
    storage: Mapping[str, Any] | None = None
    """Source of the volume with everything that STORAGE_CLAIM stands for; None = the cluster has the
    claim."""
    cache: Mapping[str, Any] | None = None
    """Source of the volume that weights are cached on; None = read from the storage at every start."""
    cache_free_share: float = 0.15
    """Part of the cache's file system that stays free. Less only where the disk is the cache's alone: a
    kubelet moves pods away from a node whose own disk has less than 0.10 left, or 0.15 with the images on
    it."""
    caller_namespaces: Mapping[str, str] = field(
        default_factory=lambda: {"kubernetes.io/metadata.name": "marketplace"}
    )
    """Labels of the namespaces whose pods (gateway, control plane) may call models."""
    caller_cidrs: tuple[str, ...] = ()
    """Networks that may call models, for a gateway that runs outside the cluster."""
    pod_security: str = "restricted"
    """Pod Security level of organizations' namespaces."""
    runtime_class: str = ""
    """RuntimeClass of pods with accelerators; empty = the node's own."""
    serving_priority_class: str = ""
    tuning_priority_class: str = ""
    workspace_storage_class: str = ""
    """StorageClass of workspaces' volumes; empty = the cluster's default."""
    confines: bool = True
    """Whether namespaces get quotas, network policies and volumes."""

    @classmethod
    def of(cls, kind: str, configuration: Mapping[str, Any]) -> Site:
        """The site of a cluster. Raises SiteError naming the field that cannot be used."""
        keys = _CHECKS.get(kind)
        if keys is None:
            raise SiteError(f"{kind!r} is not a kind of cluster; use one of {sorted(_CHECKS)}", field="kind")
        if not isinstance(configuration, Mapping):
            raise SiteError("must be a JSON object", field="configuration")
        values = {}
        for key, value in configuration.items():
            if key not in keys:
                raise SiteError(f"is not known; there are {', '.join(sorted(keys))}", field=str(key))
            values[key] = keys[key](key, value)
        if kind == "local":
            return LOCAL
        return cls(**{key: value for key, value in values.items() if key not in _CONNECTION})

    def image(self, name: str) -> str:
        """Where a node pulls the image from."""
        host, slash, _ = name.partition("/")
        names_registry = bool(slash) and ("." in host or ":" in host or host == "localhost")
        return name if names_registry or not self.image_registry else f"{self.image_registry}/{name}"


LOCAL = Site(confines=False)
"""Processes of one machine: they share its network and its files, and policies would promise what nobody
enforces."""


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SiteError(f"must be text, not {value!r}", field=key)
    return value


def _matching(pattern: re.Pattern[str], rule: str, key: str, value: Any) -> str:
    text = _text(key, value)
    if text and not pattern.fullmatch(text):
        raise SiteError(f"{text!r} is not {rule}", field=key)
    return text


def _registry(key: str, value: Any) -> str:
    rule = "a registry with an optional path, for example registry.example/mirror"
    return _matching(_REGISTRY, rule, key, value)


def _name(key: str, value: Any) -> str:
    return _matching(_NAME, "a name of a Kubernetes object: lower case letters, digits, '-', '.'", key, value)


def _label_value(key: str, value: Any) -> str:
    return _matching(_LABEL_VALUE, "a label value: at most 63 letters, digits, '-', '_', '.'", key, value)


def _volume(key: str, value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    choices = ", ".join(sorted(VOLUME_SOURCES))
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in VOLUME_SOURCES:
        raise SiteError(f"must be one volume source: an object with one key of {choices}", field=key)
    ((kind, source),) = value.items()
    if not isinstance(source, Mapping):
        raise SiteError("must be a JSON object", field=f"{key}.{kind}")
    for name in VOLUME_SOURCES[kind]:
        if not isinstance(source.get(name), str) or not source[name]:
            raise SiteError("is missing or not text", field=f"{key}.{kind}.{name}")
    path = source.get("path")
    if path is not None and (not path.startswith("/") or ".." in path.split("/")):
        raise SiteError(f"{path!r} must be an absolute path without '..'", field=f"{key}.{kind}.path")
    return MappingProxyType({kind: dict(source)})


def _share(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 0.9:
        raise SiteError(f"{value!r} must be a part from 0 to 0.9, for example 0.15", field=key)
    return float(value)


def _labels(key: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise SiteError('must be an object of labels, for example {"name": "value"}', field=key)
    for name, label in value.items():
        if not isinstance(name, str) or not _LABEL_KEY.fullmatch(name):
            raise SiteError(f"{name!r} is not a label name", field=key)
        _label_value(f"{key}.{name}", label)
    return MappingProxyType(dict(value))


def _networks(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise SiteError("must be a list of networks such as 10.0.0.0/8", field=key)
    for index, network in enumerate(value):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SiteError(f"{error}; write for example 10.0.0.0/8", field=f"{key}[{index}]") from None
    return tuple(str(network) for network in value)


def _level(key: str, value: Any) -> str:
    if value not in POD_SECURITY_LEVELS:
        raise SiteError(f"{value!r} must be one of {', '.join(POD_SECURITY_LEVELS)}", field=key)
    return str(value)


_CONNECTION = ("kubeconfig", "context", "installation")
_CHECKS: Mapping[str, Mapping[str, Any]] = {
    "kubernetes": {
        "kubeconfig": _text,
        "context": _text,
        "installation": _label_value,
        "image_registry": _registry,
        "storage": _volume,
        "cache": _volume,
        "cache_free_share": _share,
        "caller_namespaces": _labels,
        "caller_cidrs": _networks,
        "pod_security": _level,
        "runtime_class": _name,
        "serving_priority_class": _name,
        "tuning_priority_class": _name,
        "workspace_storage_class": _name,
    },
    "local": {"root": _text},
}
"""Kind of cluster -> key -> what checks its value and returns it as `Site` holds it."""
