"""What every benchmark prints: the machine, the versions, and one BENCH line for each figure."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path


def print_machine(*packages: str) -> None:
    """The machine and the versions of Python and of these packages."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or "unknown CPU",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}"
    print(f"machine   {model}, {os.cpu_count()} CPUs, {memory:.0f} GiB, {system}")
    print(f"load      {os.getloadavg()[0]:.2f} in the last minute")
    names = [f"{package} {version(package)}" for package in packages]
    print("versions  " + ", ".join((f"Python {platform.python_version()}", *names)))


def bench_line(*, name: str, value: float, unit: str, peer: str, peer_value: float) -> str:
    """One figure beside that of a peer; the ratio is value / peer_value."""
    figure = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "peer": peer,
        "peer_value": round(peer_value, 4),
        "ratio": round(value / peer_value, 4),
    }
    return f"BENCH {json.dumps(figure)}"
