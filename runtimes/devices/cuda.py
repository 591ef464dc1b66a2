"""NVIDIA GPUs, and AMD ones through the ROCm builds of torch, which answer to the same name."""

from __future__ import annotations

import os

import torch

from runtimes.devices.device import Device, DeviceUnavailable


def probe() -> Device:
    """The first visible GPU. Raises DeviceUnavailable when torch sees none."""
    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"torch {torch.__version__} sees no {_platform()} device; check image, driver, the pod's request "
            f"and {_visibility()}"
        )
    free, _ = torch.cuda.mem_get_info(0)
    properties = torch.cuda.get_device_properties(0)
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(
        name="cuda",
        torch_name="cuda:0",
        description=f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, {_platform()}",
        memory_bytes=free,
        dtypes=("bfloat16", "float16", "float32") if bfloat16 else ("float16", "float32"),
    )


def _platform() -> str:
    """What this build of torch computes with: torch calls AMD's GPUs cuda as well."""
    return f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda or '(none)'}"


def _visibility() -> str:
    """The variables that hide GPUs from this platform, as they are."""
    names = ["CUDA_VISIBLE_DEVICES"]
    if torch.version.hip:
        names += ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
    return ", ".join(
        f"{name}={os.environ[name]!r}" if name in os.environ else f"{name} (not set)" for name in names
    )
