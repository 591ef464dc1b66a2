"""What this machine offers as a node."""

from __future__ import annotations

import os
import platform

import psutil

from deployments.clusters.local.scheduling import Node
from deployments.clusters.quantities import amount


def describe_machine(*, cpu: str = "", memory: str = "") -> Node:
    """The node: the given quantities, else all that the machine has. Raises ValueError for no quantity."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Node(
        labels={
            "kubernetes.io/hostname": "local",
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
        },
        allocatable={
            "cpu": amount("cpu", cpu or os.cpu_count() or 1),
            "memory": amount("memory", memory or psutil.virtual_memory().total),
        },
    )
