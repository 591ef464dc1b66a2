"""From RUNTIME_DEVICE and RUNTIME_DTYPE to the device and the precision that will be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtimes.devices import cpu, cuda
from runtimes.devices.device import Device, DeviceUnavailable
from runtimes.devices.ipu import adapter as ipu
from runtimes.errors import SetupError

PROBES: Mapping[str, Callable[[], Device]] = {"cuda": cuda.probe, "ipu": ipu.probe, "cpu": cpu.probe}
"""In the order in which `auto` prefers them."""


def pick_device(wanted: str) -> Device:
    """The device named `wanted`, or for `auto` the first that is there.

    Raises SetupError when the name is unknown or that device cannot be used: a model is never quietly put on
    a slower device than the customer pays for.
    """
    if wanted == "auto":
        for probe in PROBES.values():
            try:
                return probe()
            except DeviceUnavailable:
                continue
        raise SetupError("RUNTIME_DEVICE=auto found no device at all")
    if wanted not in PROBES:
        raise SetupError(f"RUNTIME_DEVICE={wanted!r} is unknown; use auto, {', '.join(sorted(PROBES))}")
    try:
        return PROBES[wanted]()
    except DeviceUnavailable as error:
        raise SetupError(f"RUNTIME_DEVICE={wanted!r} cannot be used: {error}") from error


def pick_dtype(wanted: str, *, device: Device, quantized: Sequence[str] = ()) -> str:
    """The precision to compute in: `wanted`, or the device's fastest for `auto`. Raises SetupError.

    `quantized` are those that an engine adds on this device; they are never chosen by `auto`.
    """
    if wanted == "auto":
        return device.dtypes[0]
    if wanted not in (*device.dtypes, *quantized):
        names = ", ".join((*device.dtypes, *quantized))
        raise SetupError(f"RUNTIME_DTYPE={wanted!r} does not run on {device.name}; use auto, {names}")
    return wanted
