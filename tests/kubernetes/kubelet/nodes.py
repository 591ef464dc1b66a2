"""Nodes for the tests: virtual machines and bare metal, with and without accelerators. Data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node as it registers itself."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    capacity: Mapping[str, str] = field(default_factory=lambda: {"cpu": "64", "memory": "256Gi"})

    def manifest(self) -> dict[str, Any]:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            **self.labels,
        }
        taints = [dict(taint) for taint in self.taints]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"taints": taints} if taints else {},
        }

    def status(self, *, since: str = "", port: int = 0) -> dict[str, Any]:
        """What a healthy kubelet says of its node, and where it answers to the API server."""
        now = stamp()
        amounts = {"pods": "1000", "ephemeral-storage": "1Ti", **self.capacity}
        healthy = [
            {
                "type": kind,
                "status": "True" if kind == "Ready" else "False",
                "reason": "KubeletReady" if kind == "Ready" else f"KubeletHasNo{kind}",
                "message": "",
                "lastHeartbeatTime": now,
                "lastTransitionTime": since or now,
            }
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
        ]
        return {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": healthy,
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage"), "test"),
                **{"containerRuntimeVersion": "test://1", "kubeletVersion": "v1.36.0"},
                **{"kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"},
            },
        }


def virtual(name: str, *, gpus: int = 0, **labels: str) -> Node:
    """A virtual machine, with so many NVIDIA GPUs."""
    capacity = {"cpu": "32", "memory": "256Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return Node(name=name, labels={"node-class": "virtual", **labels}, capacity=capacity)


def bare_metal(name: str, *, gpus: int = 8, **labels: str) -> Node:
    """A whole machine with NVIDIA GPUs, kept for those who tolerate it."""
    return Node(
        name=name,
        labels={"node-class": "bare-metal", **labels},
        taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
        capacity={"cpu": "128", "memory": "2Ti", "nvidia.com/gpu": str(gpus)},
    )


def poplar(name: str, *, controller: str = "pod005") -> Node:
    """A Poplar server of an IPU-POD: found by the label of its V-IPU controller, not by a resource."""
    labels = {"node-class": "bare-metal", "vipu-ctrl": controller}
    return Node(name=name, labels=labels, capacity={"cpu": "64", "memory": "512Gi"})


def stamp(time: datetime | None = None) -> str:
    """A time as Kubernetes writes it."""
    return (time or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp() -> str:
    """The present as leases write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
