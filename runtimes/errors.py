"""The ways a runtime gives up, each with its exit code in the contract."""

from __future__ import annotations


class SetupError(Exception):
    """The configuration, the device or the weights cannot work; starting again will not help.

    The message says what is wrong and what would be right. Exit code BAD_CONFIGURATION.
    """


class EngineFailure(Exception):
    """The engine broke while it served and cannot answer any more; a restart may help. Exit code INTERNAL."""


class SequenceFailure(EngineFailure):
    """One answer cannot be continued; the engine goes on with all others."""
