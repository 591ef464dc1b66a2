"""How pods get hold of accelerators: each way is a row here, and each chip's row names one. Pure.

A device plug-in (NVIDIA, AMD, Graphcore's C600 and most others) makes a chip a resource of its node that a
container asks for by name and number. IPU-PODs are different: Graphcore's operator takes an IPUJob, cuts a
partition for it and starts the pods. Its rule for sizes (a power of two, at most 64) is documented in
https://docs.graphcore.ai/projects/kubernetes-user-guide/en/latest/creating-ipujob.html
"""

from __future__ import annotations

from enum import StrEnum

LARGEST_PARTITION = 64


class Attachment(StrEnum):
    """Stored in accelerators' rows and in specifications."""

    DEVICE_PLUGIN = "device_plugin"
    IPUJOB = "ipujob"


ATTACHMENTS = {
    Attachment.DEVICE_PLUGIN.value: "Device plug-in: a resource of the node",
    Attachment.IPUJOB.value: "IPUJob of Graphcore's operator",
}
"""As staff read them."""


def count_problem(attachment: str, count: int) -> str:
    """Why nobody can be given so many accelerators at once, and what can; empty if they can."""
    if attachment != Attachment.IPUJOB:
        return ""
    if 1 <= count <= LARGEST_PARTITION and count & (count - 1) == 0:
        return ""
    sizes = ", ".join(str(2**power) for power in range(LARGEST_PARTITION.bit_length()))
    return f"IPUs come in partitions of {sizes}; {count} is none of these."
