"""Why a version could not be brought into the cache. Each carries its exit code in the contract."""

from __future__ import annotations

from typing import ClassVar

from runtimes.contract import ExitCode


class CacheFailure(Exception):
    """The message says in numbers and names what was wrong."""

    code: ClassVar[ExitCode]


class WrongConfiguration(CacheFailure):
    """The folders or the manifest cannot be used as they are."""

    code = ExitCode.BAD_CONFIGURATION


class WeightsMissing(CacheFailure):
    """The storage lacks a file of the manifest."""

    code = ExitCode.WEIGHTS_MISSING


class WeightsCorrupt(CacheFailure):
    """A file on the storage is not the one of the manifest."""

    code = ExitCode.WEIGHTS_CORRUPT


class NoSpace(CacheFailure):
    """There is no room, and not enough can be removed."""

    code = ExitCode.WEIGHTS_NO_SPACE


class Stopped(CacheFailure):
    """SIGTERM arrived. What was brought so far is kept."""

    code = ExitCode.STOPPED
