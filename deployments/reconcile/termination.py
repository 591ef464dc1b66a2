"""Why a replica ended, and what that means: for the workload, for a retry, for the customer, for the bill.

One enum, total functions over it. The facts are Kubernetes' (reason, exit code) and the runtime's exit
codes (`runtimes.contract.ExitCode`); nothing else in the product interprets them. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runtimes.contract import ExitCode


class TerminationReason(StrEnum):
    """Values are CamelCase, as Kubernetes writes reasons."""

    COMPLETED = "Completed"
    STOP_REQUESTED = "StopRequested"
    INTERRUPTED = "Interrupted"
    BAD_INPUT = "BadInput"
    BAD_CONFIGURATION = "BadConfiguration"
    WEIGHTS_MISSING = "WeightsMissing"
    WEIGHTS_CORRUPT = "WeightsCorrupt"
    WEIGHTS_NO_SPACE = "WeightsNoSpace"
    OUT_OF_MEMORY = "OutOfMemory"
    INTERNAL_ERROR = "InternalError"
    CRASHED = "Crashed"
    KILLED = "Killed"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    NEVER_STARTED = "NeverStarted"
    VANISHED = "Vanished"


class Outcome(StrEnum):
    """What the end of one replica means for its workload, if nothing follows."""

    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    FAILED = "failed"


class Payer(StrEnum):
    """Who pays for a training run that ended so. Values of `marketplace.billing.models.UsageCause`."""

    CUSTOMER = "customer"
    PROVIDER = "provider"


@dataclass(frozen=True)
class _Meaning:
    state: Outcome
    retry: bool
    payer: Payer
    text: str


_MEANINGS = {
    TerminationReason.COMPLETED: _Meaning(
        Outcome.SUCCEEDED, False, Payer.CUSTOMER, "It did all of its work."
    ),
    TerminationReason.STOP_REQUESTED: _Meaning(
        Outcome.STOPPED, False, Payer.CUSTOMER, "It was stopped as asked."
    ),
    # What was trained until then is in a checkpoint, so it was not in vain.
    TerminationReason.INTERRUPTED: _Meaning(
        Outcome.STOPPED,
        True,
        Payer.CUSTOMER,
        "It was interrupted after saving a checkpoint, and continues from it.",
    ),
    TerminationReason.BAD_INPUT: _Meaning(
        Outcome.FAILED,
        False,
        Payer.CUSTOMER,
        "The data or the settings cannot work as they are. Mend them and start again.",
    ),
    TerminationReason.BAD_CONFIGURATION: _Meaning(
        Outcome.FAILED,
        False,
        Payer.PROVIDER,
        "We started it with a wrong configuration or damaged weights. This is ours to mend.",
    ),
    TerminationReason.WEIGHTS_MISSING: _Meaning(
        Outcome.FAILED,
        False,
        Payer.PROVIDER,
        "Our storage lacks a file of this version, so it cannot start. This is ours to mend.",
    ),
    TerminationReason.WEIGHTS_CORRUPT: _Meaning(
        Outcome.FAILED,
        False,
        Payer.PROVIDER,
        "A file of this version is not the one that was approved, so nothing was loaded. We mend this.",
    ),
    # Another pod may end, or it lands on another node.
    TerminationReason.WEIGHTS_NO_SPACE: _Meaning(
        Outcome.FAILED,
        True,
        Payer.PROVIDER,
        "The disk of its node has no room for the weights. It is tried again; making room is ours.",
    ),
    # We said that it fits.
    TerminationReason.OUT_OF_MEMORY: _Meaning(
        Outcome.FAILED,
        True,
        Payer.PROVIDER,
        "It ran out of memory. Choose a flavor with more memory, or a shorter context or smaller batches.",
    ),
    TerminationReason.INTERNAL_ERROR: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "An error of ours ended it. Its log has the details."
    ),
    TerminationReason.CRASHED: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "Its process ended unexpectedly. Its log has the details."
    ),
    TerminationReason.KILLED: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "Its process was killed from outside."
    ),
    TerminationReason.EVICTED: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "Its node needed the room, so it was moved away."
    ),
    TerminationReason.NODE_LOST: _Meaning(Outcome.FAILED, True, Payer.PROVIDER, "Its node was lost."),
    TerminationReason.NEVER_STARTED: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "It was given up before its container had started."
    ),
    TerminationReason.VANISHED: _Meaning(
        Outcome.FAILED, True, Payer.PROVIDER, "It disappeared from the cluster without a report."
    ),
}

_BY_WORD = {
    "OOMKilled": TerminationReason.OUT_OF_MEMORY,
    "Evicted": TerminationReason.EVICTED,
    "Preempting": TerminationReason.EVICTED,
    "Preempted": TerminationReason.EVICTED,
    "PreemptionByScheduler": TerminationReason.EVICTED,
    "DeletionByTaintManager": TerminationReason.NODE_LOST,
    "DeletionByPodGC": TerminationReason.NODE_LOST,
    "EvictionByEvictionAPI": TerminationReason.EVICTED,
    "TerminationByKubelet": TerminationReason.EVICTED,
    "NodeLost": TerminationReason.NODE_LOST,
    "NodeUnreachable": TerminationReason.NODE_LOST,
    "NodeShutdown": TerminationReason.NODE_LOST,
    "Terminated": TerminationReason.NODE_LOST,
}
"""Kubernetes' words for ends that the exit code alone would not tell."""

_BY_EXIT_CODE = {
    ExitCode.DONE: TerminationReason.COMPLETED,
    ExitCode.STOPPED: TerminationReason.INTERRUPTED,
    ExitCode.BAD_INPUT: TerminationReason.BAD_INPUT,
    ExitCode.BAD_CONFIGURATION: TerminationReason.BAD_CONFIGURATION,
    ExitCode.INTERNAL: TerminationReason.INTERNAL_ERROR,
    ExitCode.WEIGHTS_MISSING: TerminationReason.WEIGHTS_MISSING,
    ExitCode.WEIGHTS_CORRUPT: TerminationReason.WEIGHTS_CORRUPT,
    ExitCode.WEIGHTS_NO_SPACE: TerminationReason.WEIGHTS_NO_SPACE,
    128 + 9: TerminationReason.KILLED,
    128 + 15: TerminationReason.KILLED,
    # Popen reports a signal as a negative number.
    -9: TerminationReason.KILLED,
    -15: TerminationReason.KILLED,
}

_BEFORE_START = (ExitCode.WEIGHTS_MISSING, ExitCode.WEIGHTS_CORRUPT, ExitCode.WEIGHTS_NO_SPACE)
"""Ends of the init container: the main one cannot have started."""


def termination_reason(
    *, word: str, exit_code: int | None, started: bool, vanished: bool, stop_requested: bool
) -> TerminationReason:
    """Why a replica ended. `word` is Kubernetes' reason, `vanished` that no end was reported."""
    if exit_code == ExitCode.DONE and not vanished:
        return TerminationReason.COMPLETED
    if stop_requested:
        # However it went down, it was on its way out.
        return TerminationReason.STOP_REQUESTED
    if word in _BY_WORD:
        return _BY_WORD[word]
    if not started and exit_code not in _BEFORE_START:
        return TerminationReason.NEVER_STARTED
    if vanished or exit_code is None:
        return TerminationReason.VANISHED
    return _BY_EXIT_CODE.get(exit_code, TerminationReason.CRASHED)


def state_after(reason: TerminationReason) -> Outcome:
    """What this end means for the workload, if nothing follows."""
    return _MEANINGS[reason].state


def helps_to_retry(reason: TerminationReason) -> bool:
    """Whether starting the same again can end better."""
    return _MEANINGS[reason].retry


def customer_text(reason: TerminationReason) -> str:
    """What the customer is told."""
    return _MEANINGS[reason].text


def who_pays(reason: TerminationReason) -> Payer:
    """Who pays for the time that a training replica ran."""
    return _MEANINGS[reason].payer


def who_pays_outage(reason: TerminationReason) -> Payer:
    """Who pays for the time that a serving replica was down because its container ended so.

    The customer only for a failure that is theirs: settings or data that cannot work. All else is the
    provider's: running out of memory too, because we had said that it fits, and an end that is no failure,
    because nobody had asked for it.
    """
    return who_pays(reason) if state_after(reason) is Outcome.FAILED else Payer.PROVIDER
