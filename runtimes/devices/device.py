"""What a runtime needs to know about the device it computes on."""

from __future__ import annotations

from dataclasses import dataclass


class DeviceUnavailable(Exception):
    """This kind of device cannot be used here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that can be used now."""

    name: str
    """cpu, cuda or ipu, as in RUNTIME_DEVICE."""
    torch_name: str
    """What torch calls it, such as `cuda:0`."""
    description: str
    """For people: the product's name and how much of it there is."""
    memory_bytes: int
    """Memory that weights, cache and activations may take."""
    dtypes: tuple[str, ...]
    """Precisions it computes in, fastest first: the first is what `auto` means."""
    count: int = 1
    """How many of them, each with `memory_bytes` and a copy of the model."""
