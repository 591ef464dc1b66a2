"""Known causes of death, recognized by what a container wrote or how it ended, with what would mend it. Pure.

Data, not code: a new cause is a row. The patterns are sentences of the libraries that write them (PyTorch,
huggingface_hub, uvicorn, the operating system) and of our own runtime. The first row that fits counts, so the
more special stands before the more general.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.reconcile.termination import TerminationReason


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One known cause."""

    id: str
    title: str
    fix: str
    """What to change, in a sentence."""
    who: str
    """you, provider or upstream."""
    pattern: str = ""
    """Found in one line of log, message or event, whatever its case; empty = the ends alone decide."""
    ends: tuple[TerminationReason, ...] = ()
    """Only for these ends; empty = for any."""
    change: Mapping[str, Any] = field(default_factory=dict)
    """What to change of the deployment, as a hint for programs: field -> less, more or another."""

    def fits(self, *, end: TerminationReason, lines: Iterable[str]) -> bool:
        if self.ends and end not in self.ends:
            return False
        return not self.pattern or any(re.search(self.pattern, line, re.IGNORECASE) for line in lines)


SIGNATURES = (
    Signature(
        id="accelerator-out-of-memory",
        title="The accelerator ran out of memory",
        fix="Ask for a shorter context or fewer requests at once, or take a flavor with more memory.",
        who="you",
        pattern=r"(?:CUDA|HIP) out of memory|torch\.(?:cuda\.)?OutOfMemoryError|STATUS_ALLOC_FAILED",
        change={"context_length": "less", "max_concurrency": "less", "flavor": "more memory"},
    ),
    Signature(
        id="host-out-of-memory",
        title="The container used more memory than its flavor has",
        fix="Take a flavor with more memory, or ask for a shorter context or fewer requests at once.",
        who="you",
        ends=(TerminationReason.OUT_OF_MEMORY,),
        change={"flavor": "more memory", "context_length": "less", "max_concurrency": "less"},
    ),
    Signature(
        id="host-out-of-memory",
        title="The process could not get memory",
        fix="Take a flavor with more memory, or ask for a shorter context or fewer requests at once.",
        who="you",
        pattern=r"\bMemoryError\b|Cannot allocate memory|DefaultCPUAllocator: (?:can't allocate|not enough)",
        change={"flavor": "more memory", "context_length": "less", "max_concurrency": "less"},
    ),
    Signature(
        id="bad-token",
        title="A hub refused the credentials",
        fix="Replace the token by one that may read the model, and accept the model's terms on the hub.",
        who="you",
        pattern=r"40[13] Client Error|GatedRepoError|Invalid user token|Invalid credentials in Authorization",
    ),
    Signature(
        id="driver-mismatch",
        title="The node's driver is older than the image needs",
        fix="This is ours to mend: nodes with a newer driver, or an image for this one.",
        who="provider",
        pattern=r"driver version is insufficient|forward compatibility was attempted|driver on your system is"
        r" too old|no kernel image is available|CUDA error: invalid device function",
    ),
    Signature(
        id="no-accelerator",
        title="The container saw no accelerator",
        fix="This is ours to mend: the node did not hand the device to the container.",
        who="provider",
        pattern=r"No CUDA GPUs are available|Found no NVIDIA driver|Torch not compiled with CUDA|no HIP GPUs",
    ),
    Signature(
        id="accelerator-failed",
        title="The accelerator reported an error of its hardware",
        fix="This is ours to mend: the replica is started on another node.",
        who="provider",
        pattern=r"uncorrectable ECC|\bXid\b|GPU has fallen off the bus|error: unspecified launch failure",
    ),
    Signature(
        id="corrupt-weights",
        title="The weights are damaged",
        fix="This is ours to mend: the version is imported again.",
        who="provider",
        pattern=r"the manifest says|not in the manifest|not a whole safetensors|HeaderTooLarge|InvalidHeader",
        ends=(
            TerminationReason.BAD_CONFIGURATION,
            TerminationReason.INTERNAL_ERROR,
            TerminationReason.CRASHED,
        ),
    ),
    Signature(
        id="corrupt-weights",
        title="The weights on the storage are not those that were approved",
        fix="This is ours to mend: the version is imported again.",
        who="provider",
        ends=(TerminationReason.WEIGHTS_CORRUPT,),
    ),
    Signature(
        id="weights-missing",
        title="A file of the version is not on the storage",
        fix="This is ours to mend: the version is imported again.",
        who="provider",
        ends=(TerminationReason.WEIGHTS_MISSING,),
    ),
    Signature(
        id="disk-full",
        title="The disk was full",
        fix="This is ours to mend: the node's cache is cleared, or the replica moves.",
        who="provider",
        ends=(TerminationReason.WEIGHTS_NO_SPACE,),
    ),
    Signature(
        id="disk-full",
        title="The disk was full",
        fix="This is ours to mend: the node's cache is cleared, or the replica moves.",
        who="provider",
        pattern=r"No space left on device|ephemeral local storage usage exceeds|DiskPressure|Errno 28",
    ),
    Signature(
        id="missing-file",
        title="A file that the model needs is not there",
        fix="Import the version again with all of its files; a tokenizer and config.json are among them.",
        who="provider",
        pattern=r"FileNotFoundError|there is no model folder|No such file or directory|EntryNotFoundError",
    ),
    Signature(
        id="port-in-use",
        title="Another process had the port already",
        fix="This is ours to mend: it is started again with a free port.",
        who="provider",
        pattern=r"address already in use|Errno 98",
    ),
    Signature(
        id="probe-too-short",
        title="It was stopped because it did not get ready, or did not answer, in time",
        fix="Take a flavor that loads the model faster; when it was busy, allow fewer requests at once.",
        who="provider",
        pattern=r"(?:startup|liveness) probe failed|failed (?:startup|liveness) probe",
        change={"max_concurrency": "less"},
    ),
    Signature(
        id="wrong-arguments",
        title="The runtime was told something that it does not understand",
        fix="This is ours to mend, unless the deployment was given options of its own: then leave them out.",
        who="provider",
        pattern=r"wrong configuration|unrecognized arguments|RUNTIME_\w+=.* is not usable|not set: RUNTIME_",
    ),
    Signature(
        id="bad-data",
        title="The data or the settings cannot work",
        fix="The message says which line or setting; mend it and start again.",
        who="you",
        ends=(TerminationReason.BAD_INPUT,),
    ),
    Signature(
        id="node-lost",
        title="The node was lost",
        fix="Nothing to do: the replica is started on another node, and the outage is not billed.",
        who="provider",
        ends=(TerminationReason.NODE_LOST, TerminationReason.VANISHED),
    ),
    Signature(
        id="evicted",
        title="The node needed the room",
        fix="Nothing to do: the replica is started elsewhere. Two replicas bridge this.",
        who="provider",
        ends=(TerminationReason.EVICTED,),
        change={"replicas": "more"},
    ),
)


def recognize(*, end: TerminationReason, lines: Iterable[str]) -> Signature | None:
    """The first known cause that fits; None when the death is not understood."""
    lines = list(lines)
    return next((item for item in SIGNATURES if item.fits(end=end, lines=lines)), None)
