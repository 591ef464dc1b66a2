"""What manifests are made from, as values: complete, self-contained, stored as JSON in the row that wants it.

Planning builds a spec once; `reconcile.manifests` turns it into Kubernetes objects every time, the same way.
A spec never refers to another row, so that a stored revision can be started again in a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marketplace.hardware.attachments import Attachment


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A part of the storage that the container sees."""

    sub_path: str
    """Below the storage root: a folder, or one file."""
    mount_path: str
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one pod asks for, and where it may land."""

    cpu_millicores: int
    memory_bytes: int
    accelerator_resource: str = ""
    """Kubernetes resource name, for example nvidia.com/gpu; empty on CPU and where no resource asks for
    it."""
    accelerator_count: int = 0
    attachment: Attachment = Attachment.DEVICE_PLUGIN
    """How the accelerators, if there are any, are asked for."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServingSpec:
    """One revision of a deployment."""

    resource: str
    """Public id of the deployment."""
    organization: str
    """Public id of the organization; its namespace is named after it."""
    revision: int
    image: str
    environment: Mapping[str, str]
    """RUNTIME_* variables, from `runtimes.contract.ServingEnvironment`."""
    mounts: tuple[Mount, ...]
    resources: Resources
    grace_seconds: int = 30
    """From SIGTERM to SIGKILL; longer than the runtime's drain."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServingSpec:
        return cls(**_nested(value))


@dataclass(frozen=True, kw_only=True)
class TuningSpec:
    """One fine-tuning job."""

    resource: str
    """Public id of the job."""
    organization: str
    image: str
    environment: Mapping[str, str]
    """RUNTIME_* variables, from `runtimes.contract.TuningEnvironment`."""
    mounts: tuple[Mount, ...]
    resources: Resources
    grace_seconds: int = 60
    """From SIGTERM to SIGKILL; time enough to save a checkpoint."""
    retries: int = 3
    """Restarts after a failure that may pass; a BAD_INPUT exit is never retried."""
    nodes: int = 1
    """Pods that train together, each with all of `resources`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TuningSpec:
        return cls(**_nested(value))


@dataclass(frozen=True, kw_only=True)
class WorkspaceSpec:
    """One workspace: a notebook server and the volume that belongs to it."""

    resource: str
    """Public id of the workspace."""
    organization: str
    image: str
    resources: Resources
    volume_gib: int
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    """Of the storage that all share: a workspace sees nothing of it."""
    grace_seconds: int = 30
    """From SIGTERM to SIGKILL; kernels are asked to end meanwhile."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WorkspaceSpec:
        return cls(**_nested(value))


Spec = ServingSpec | TuningSpec | WorkspaceSpec


def workspace_path(public_id: str) -> str:
    """The path that a workspace has at the gateway, and that its server answers below."""
    return f"/workspaces/{public_id}/"


def _nested(value: Mapping[str, Any]) -> dict[str, Any]:
    resources = dict(value["resources"])
    resources["tolerations"] = tuple(resources.get("tolerations", ()))
    if "attachment" in resources:
        resources["attachment"] = Attachment(resources["attachment"])
    return {
        **value,
        "mounts": tuple(Mount(**mount) for mount in value["mounts"]),
        "resources": Resources(**resources),
    }
