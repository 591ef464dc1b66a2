"""How much memory this process has had at most, on the machine and on its device."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Most bytes this process has had: resident memory, and what torch took on a GPU."""
    peak = _resident_peak()
    torch = sys.modules.get("torch")  # not imported here, so that the front answers before torch is there
    if torch is not None and torch.cuda.is_available():
        peak += torch.cuda.max_memory_reserved()
    return peak


def _resident_peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in kibibytes everywhere else
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # On Linux ru_maxrss is never less than what the process was that started this one; VmHWM begins anew.
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
