"""Graphcore IPUs.

Their SDK needs an image of its own with older torch and Python, so this one only says so.
"""

from __future__ import annotations

from importlib.util import find_spec

from runtimes.devices.device import Device, DeviceUnavailable


def probe() -> Device:
    """Raises DeviceUnavailable: this image cannot compute on an IPU, with or without PopTorch in it."""
    if find_spec("poptorch") is None:
        raise DeviceUnavailable("PopTorch is not in this image; IPU nodes need the IPU runtime image")
    raise DeviceUnavailable("the engines of this image do not run on IPUs; use the IPU runtime image")
