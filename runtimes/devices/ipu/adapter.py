"""Whether there are IPUs, and how much they hold."""

from __future__ import annotations

import os

from runtimes.devices.device import Device, DeviceUnavailable
from runtimes.devices.ipu.process import PYTHON_VARIABLE, ask_worker
from runtimes.errors import SetupError

IPU_BYTES = 900 * 10**6
"""Memory inside of one processor of the second generation, where a program and its weights lie.
https://docs.graphcore.ai/projects/ipu-programmers-guide/en/latest/about_ipu.html"""


def probe() -> Device:
    """The attached IPUs. Each holds a whole copy of the model, so the memory is that of one.

    Raises DeviceUnavailable.
    """
    if not os.environ.get(PYTHON_VARIABLE):
        raise DeviceUnavailable(
            f"PopTorch is not in this image ({PYTHON_VARIABLE} is not set); "
            "IPU nodes need the IPU runtime image"
        )
    try:
        found = ask_worker("probe")
    except SetupError as error:
        raise DeviceUnavailable(str(error)) from error
    count = int(found["ipus"])
    return Device(
        name="ipu",
        torch_name="ipu",
        description=f"{count} x IPU, {IPU_BYTES / 2**30:.2f} GiB each, {found['poptorch']}",
        memory_bytes=IPU_BYTES,
        dtypes=("float16", "float32"),
        count=count,
    )
