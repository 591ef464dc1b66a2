"""The pod of every workload: where it may land, what it gets, and how little it may do.

Customers' models run here, so a pod may neither write to its own image nor reach the API server nor hold a
privilege. Pods meet Kubernetes' "restricted" level, except where an accelerator is attached in a way that
forbids it: that is data, see `ATTACHED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from deployments.clusters.site import STORAGE_CLAIM, Site
from deployments.reconcile.manifests.objects import owned, resource_labels
from deployments.reconcile.manifests.weights import (
    CachedVersion,
    cache_variables,
    cache_volumes,
    cached_versions,
    weights_containers,
    weights_mounts,
)
from deployments.serving.spec import Resources, Spec, TuningSpec
from marketplace.hardware.attachments import Attachment

CONTAINER = "runtime"
"""Name of the main container of every pod."""
USER_ID = 10001
"""Any number but 0: images must not rely on a name in /etc/passwd."""

SCRATCH_PATH = "/tmp"
SHARED_MEMORY_PATH = "/dev/shm"
SCRATCH_BYTES = 8 * 2**30
"""Compiled kernels and temporary files. The kubelet evicts a pod that fills it, before it fills the node."""
SHARED_MEMORY_SHARE = 4
"""Processes that drive several devices pass tensors through shared memory, which counts as the pod's own
memory: at most one in so many bytes of it, where an engine's default is 64 MiB."""

ENVIRONMENT = {
    # Weights arrive by volume, and the network is closed: whoever tried the hub would wait for a timeout.
    "HF_HUB_OFFLINE": "1",
    # The only folder that may be written to.
    "HOME": SCRATCH_PATH,
    "TMPDIR": SCRATCH_PATH,
}


NO_CLAIMS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What a way of attaching accelerators asks of the pod."""

    pod: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()


ATTACHED: Mapping[Attachment, Attached] = MappingProxyType(
    {
        Attachment.DEVICE_PLUGIN: Attached(),
        # Poplar talks to its partition through shared memory of the host and pins pages for it:
        # https://docs.graphcore.ai/projects/kubernetes-user-guide/en/latest/creating-ipujob.html
        Attachment.IPUJOB: Attached(pod={"hostIPC": True}, capabilities=("IPC_LOCK",)),
    }
)


def pod_template(
    spec: Spec,
    *,
    site: Site,
    restart_policy: str,
    grace_seconds: int,
    container: Mapping[str, Any],
    pod: Mapping[str, Any] | None = None,
    claims: Mapping[str, str] = NO_CLAIMS,
) -> dict[str, Any]:
    """The template of the workload's pods; `container` and `pod` hold what is particular to the workload.

    `claims`: name of a volume claim of the workload's own -> where the container sees it.
    """
    # Whoever waits for an answer goes before what runs overnight.
    priority = site.tuning_priority_class if isinstance(spec, TuningSpec) else site.serving_priority_class
    attached = ATTACHED[spec.resources.attachment]
    versions = cached_versions(spec, site=site)
    main = {**_container(spec, site=site, versions=versions, claims=claims), **container}
    init = weights_containers(
        main, versions=versions, variables=ENVIRONMENT, free_share=site.cache_free_share
    )
    optional: dict[str, Any] = {
        "initContainers": init,
        "runtimeClassName": site.runtime_class if spec.resources.accelerator_count else "",
        "priorityClassName": priority,
    }
    return {
        "metadata": {"labels": owned(resource_labels(spec))},
        "spec": {
            "restartPolicy": restart_policy,
            "terminationGracePeriodSeconds": grace_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                # Walking through terabytes of weights to change their group takes longer than loading them.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": dict(spec.resources.node_selector),
            "tolerations": [dict(toleration) for toleration in spec.resources.tolerations],
            "containers": [main],
            "volumes": [*_volumes(spec, claims=claims), *cache_volumes(versions)],
            **{name: value for name, value in optional.items() if value},
            **attached.pod,
            **(pod or {}),
        },
    }


def environment(spec: Spec, *, site: Site) -> list[dict[str, Any]]:
    """The variables that a specification and we set, by name."""
    cached = cache_variables(cached_versions(spec, site=site))
    variables = {**ENVIRONMENT, **spec.environment, **cached}
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def _container(
    spec: Spec, *, site: Site, versions: tuple[CachedVersion, ...], claims: Mapping[str, str]
) -> dict[str, Any]:
    amounts = _amounts(spec.resources)
    attached = ATTACHED[spec.resources.attachment]
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if attached.capabilities:
        capabilities["add"] = list(attached.capabilities)
    mounts = [item for mount in spec.mounts for item in weights_mounts(mount, versions=versions)]
    mounts += [{"name": name, "mountPath": path} for name, path in claims.items()]
    mounts.append({"name": "scratch", "mountPath": SCRATCH_PATH})
    if spec.resources.accelerator_count:
        mounts.append({"name": "shared-memory", "mountPath": SHARED_MEMORY_PATH})
    return {
        "name": CONTAINER,
        "image": site.image(spec.image),
        "env": environment(spec, site=site),
        # Equal, so that a neighbor's load can neither slow the pod down nor evict it.
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": capabilities,
        },
        # An uncaught error's last lines, where whoever looks at the pod sees them.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _amounts(resources: Resources) -> dict[str, str]:
    amounts = {"cpu": f"{resources.cpu_millicores}m", "memory": str(resources.memory_bytes)}
    if resources.accelerator_resource and resources.attachment is Attachment.DEVICE_PLUGIN:
        amounts[resources.accelerator_resource] = str(resources.accelerator_count)
    return amounts


def _volumes(spec: Spec, *, claims: Mapping[str, str]) -> list[dict[str, Any]]:
    shared = {"storage": STORAGE_CLAIM} if spec.mounts else {}
    volumes: list[dict[str, Any]] = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for name, claim in {**shared, **{name: name for name in claims}}.items()
    ]
    volumes.append({"name": "scratch", "emptyDir": {"sizeLimit": str(SCRATCH_BYTES)}})
    if spec.resources.accelerator_count:
        limit = spec.resources.memory_bytes // SHARED_MEMORY_SHARE
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(limit)}})
    return volumes
