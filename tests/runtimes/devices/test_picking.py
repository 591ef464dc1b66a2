from __future__ import annotations

import pytest
import torch

from runtimes.devices import picking
from runtimes.devices.device import Device, DeviceUnavailable
from runtimes.devices.picking import pick_device, pick_dtype
from runtimes.errors import SetupError

CPU = Device(name="cpu", torch_name="cpu", description="CPU", memory_bytes=1, dtypes=("float32", "bfloat16"))
GPU = Device(name="cuda", torch_name="cuda:0", description="GPU", memory_bytes=1, dtypes=("bfloat16",))


def missing() -> Device:
    raise DeviceUnavailable("no driver")


def test_auto_takes_the_first_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "PROBES", {"cuda": missing, "ipu": missing, "cpu": lambda: CPU})
    assert pick_device("auto") == CPU
    monkeypatch.setattr(picking, "PROBES", {"cuda": lambda: GPU, "cpu": lambda: CPU})
    assert pick_device("auto") == GPU


def test_a_device_that_was_asked_for_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "PROBES", {"cuda": missing, "cpu": lambda: CPU})

    with pytest.raises(SetupError, match="RUNTIME_DEVICE='cuda' cannot be used: no driver"):
        pick_device("cuda")
    with pytest.raises(SetupError, match="RUNTIME_DEVICE='tpu' is unknown; use auto, cpu, cuda"):
        pick_device("tpu")


def test_the_processor_of_this_machine_is_found() -> None:
    device = pick_device("cpu")

    assert (device.name, device.torch_name, device.dtypes[0]) == ("cpu", "cpu", "float32")
    assert device.memory_bytes > 2**28


def test_an_ipu_needs_its_own_image() -> None:
    with pytest.raises(SetupError, match="RUNTIME_DEVICE='ipu' cannot be used: .* IPU runtime image"):
        pick_device("ipu")


def test_the_precision_must_run_on_the_device() -> None:
    assert pick_dtype("auto", device=CPU) == "float32"
    assert pick_dtype("bfloat16", device=CPU) == "bfloat16"
    with pytest.raises(
        SetupError, match="RUNTIME_DTYPE='float16' does not run on cpu; use auto, float32, bfloat16"
    ):
        pick_dtype("float16", device=CPU)


@pytest.mark.parametrize(
    ("hip", "message"),
    [
        (None, r"sees no CUDA .*device; .* CUDA_VISIBLE_DEVICES='7'$"),
        ("6.4", r"sees no ROCm 6\.4 device; .* CUDA_VISIBLE_DEVICES='7', HIP_VISIBLE_DEVICES='', ROCR"),
    ],
    ids=["NVIDIA", "AMD"],
)
def test_a_gpu_that_is_not_seen_is_told_with_what_may_hide_it(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")

    with pytest.raises(SetupError, match=message):
        pick_device("cuda")
