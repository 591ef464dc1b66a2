"""One long-running program: how it is started, known to be ready, and stopped.

Separate from what the programs are (postgres.py, valkey.py, components.py) and from who keeps them alive
(supervisor.py), because the tests start PostgreSQL and Valkey without a supervisor.

A program never outlives the process that started it: on Linux the kernel sends it `death_signal` when
that process dies, even by `kill -9`. Start programs from the main thread only, since the kernel looks at the
thread that forked.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProgramFailed(Exception):
    """A program did not start, or ended when it should run. The message says where its log is."""


def _always_ready() -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, and how to treat it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment."""
    user: str | None = None
    """System user to run as; None = ours."""
    prepare: Callable[[], None] | None = None
    """Called before every start: removes what a killed predecessor left behind."""
    is_ready: Callable[[], bool] = _always_ready
    ready_seconds: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for an orderly end."""
    stop_seconds: float = 15.0
    """How long that may take before SIGKILL."""
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when the process that started it dies."""


def start(program: Program, *, log: Path) -> subprocess.Popen[bytes]:
    """Starts the program in its own process group, its output appended to `log`.

    Returns at once; `wait_until_ready` waits. Raises ProgramFailed when it cannot be executed.
    """
    if program.prepare is not None:
        program.prepare()
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def follow_parent_into_death() -> None:
        # Runs in the child after the change of user, which would clear the setting.
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, program.death_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.environment},
                **identity_of(program.user),
                process_group=0,
                preexec_fn=follow_parent_into_death,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramFailed(f"{program.name} cannot be started: {error}") from error


def identity_of(user: str | None) -> dict[str, Any]:
    """The arguments of Popen that run a child as `user` (with none of our groups), or as ourselves."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    # cwd: another user may not be allowed to stand in our folder.
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": (), "cwd": "/"}


def wait_until_ready(
    program: Program,
    process: subprocess.Popen[bytes],
    *,
    log: Path,
    idle: Callable[[], object] = lambda: time.sleep(0.05),
) -> None:
    """Returns when the program is ready, calling `idle` between two looks.

    Raises ProgramFailed when it ends before, or takes longer than it may.
    """
    deadline = time.monotonic() + program.ready_seconds
    while not program.is_ready():
        if process.poll() is not None:
            end = describe_end(process.returncode)
            raise ProgramFailed(f"{program.name} ended with {end} before it was ready; see {log}")
        if time.monotonic() > deadline:
            raise ProgramFailed(
                f"{program.name} was not ready after {program.ready_seconds:.0f} s; see {log}"
            )
        idle()


def ask_to_stop(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Sends the stop signal, once: several programs take a second one for "at once"."""
    if process.poll() is None:
        process.send_signal(program.stop_signal)


def wait_until_stopped(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Waits for the end that was asked for; SIGKILL when it takes longer than it may."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(program.stop_seconds)
    kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the program and to whatever it left in its process group."""
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids it for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe_end(returncode: int) -> str:
    """`exit code 3` or `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
