"""What this machine offers as a node."""

from __future__ import annotations

import os
import platform

import psutil

from deployments.clusters.local.scheduling import Node
from deployments.clusters.quantities import amount

CPU_OVERCOMMIT = 4
"""Pods on a machine for trying things mostly wait for requests, so they share its cores. Memory is never
promised twice."""


def describe_machine(*, cpu: str = "", memory: str = "") -> Node:
    """The node: the given quantities, else the machine's memory and its cores CPU_OVERCOMMIT times.

    Raises ValueError for no quantity.
    """
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Node(
        labels={
            "kubernetes.io/hostname": "local",
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
        },
        allocatable={
            "cpu": amount("cpu", cpu or (os.cpu_count() or 1) * CPU_OVERCOMMIT),
            "memory": amount("memory", memory or psutil.virtual_memory().total),
        },
    )
