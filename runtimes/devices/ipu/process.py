"""The worker process: started, asked for arrays of a fixed size, stopped."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import EngineFailure, SetupError

PYTHON_VARIABLE = "RUNTIME_IPU_PYTHON"
"""The SDK's Python; the IPU image sets it."""
CACHE_VARIABLE = "RUNTIME_IPU_CACHE"
"""Folder of compiled programs, kept between starts where it is a volume: compiling takes minutes."""
WORKER = Path(__file__).parent / "worker"


def ask_worker(command: str) -> dict[str, Any]:
    """What the worker says to a command that it answers with one line. Raises SetupError."""
    with _start(command, {}) as process:
        return _read_line(process)


def cache_folder() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or "/tmp/ipu-programs")


class Worker:
    """A compiled program that turns one batch of packed rows into vectors. Used by one thread at a time."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Starts it and waits until the program is compiled or loaded. Raises SetupError."""
        self._process = _start("serve", settings)
        try:
            self.facts = _read_line(self._process)
        except SetupError:
            self.stop()
            raise
        self._shape = tuple(self.facts["output"])  # (rows, segments, hidden size)
        self.dimensions = int(self._shape[-1])

    def compute(self, *inputs: NDArray[np.int32]) -> NDArray[np.float32]:
        """ids, positions and segments [rows, row tokens] to vectors [rows, segments, hidden size].

        Raises EngineFailure when the worker has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        size = 4 * int(np.prod(self._shape))
        try:
            for values in inputs:
                stdin.write(np.ascontiguousarray(values, dtype="<i4").tobytes())
            stdin.flush()
            content = stdout.read(size)
        except (OSError, ValueError) as error:
            raise EngineFailure(f"the IPU worker cannot be reached: {error}") from error
        if len(content) != size:
            raise EngineFailure("the IPU worker has ended")
        return np.frombuffer(content, dtype="<f4").reshape(self._shape)

    def stop(self) -> None:
        """Ends it at once: nothing that it computes is worth waiting for."""
        self._process.kill()
        with self._process:
            pass


def _start(command: str, settings: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    arguments = [os.environ.get(PYTHON_VARIABLE, ""), str(WORKER), command, json.dumps(settings)]
    try:
        return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise SetupError(f"{PYTHON_VARIABLE}={arguments[0]!r} cannot be started: {error.strerror}") from error


def _read_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise SetupError("the IPU worker ended before it was ready; its own messages are above") from None
    if "error" in answer:
        raise SetupError(str(answer["error"]))
    return answer
