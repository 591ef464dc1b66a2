"""NVIDIA GPUs, and AMD ones through the ROCm builds of torch, which answer to the same name."""

from __future__ import annotations

import torch

from runtimes.devices.device import Device, DeviceUnavailable


def probe() -> Device:
    """The first visible GPU. Raises DeviceUnavailable when torch sees none."""
    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"torch {torch.__version__} sees no CUDA device; check image, driver and the pod's request"
        )
    free, _ = torch.cuda.mem_get_info(0)
    properties = torch.cuda.get_device_properties(0)
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(
        name="cuda",
        torch_name="cuda:0",
        description=f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB",
        memory_bytes=free,
        dtypes=("bfloat16", "float16", "float32") if bfloat16 else ("float16", "float32"),
    )
