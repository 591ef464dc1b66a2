"""The processor itself: always there, limited by the container's share rather than by the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import torch

from runtimes.devices.device import Device

# Version 2 of control groups first, then version 1.
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def probe() -> Device:
    """The processor with the cores and the memory this container may use.

    float32 comes first: without AMX, bfloat16 matrix products are slower on x86 than float32 ones.
    """
    cores = usable_cores()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores)
    memory = usable_memory()
    return Device(
        name="cpu",
        torch_name="cpu",
        description=f"CPU, {cores} cores, {memory / 2**30:.1f} GiB",
        memory_bytes=memory,
        dtypes=("float32", "bfloat16"),
    )


def usable_cores() -> int:
    """Cores this process may run on: the smaller of its affinity and the container's quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(_CPU_QUOTA).partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def usable_memory() -> int:
    """Bytes this process may take: the smaller of what is free and the container's limit."""
    limits = [int(text) for text in map(_read, _MEMORY_LIMITS) if text.isdigit()]
    return min([psutil.virtual_memory().available, *limits])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
