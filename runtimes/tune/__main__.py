"""The entry point of a fine-tuning container: `python -m runtimes.tune`, told what to do by RUNTIME_*
variables.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runtimes.cache.holding import hold_for_tuning
from runtimes.contract import ContractError, ExitCode, Task, TrainingEventType, TuningEnvironment
from runtimes.errors import SetupError
from runtimes.signals import stop_on_signals
from runtimes.tune.chats import Chat, read_chats
from runtimes.tune.failures import BadInput
from runtimes.tune.reporting import RESULT_FILE, Reporter, tell_finished
from runtimes.weights import stay_offline, verify_digests

logger = logging.getLogger("runtimes.tune")

RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 1000),
    "learning_rate": (1e-8, 1.0),
    "lora_rank": (1, 1024),
    "batch_tokens": (1, 10_000_000),
    "max_length": (2, 10_000_000),
    "validation_share": (0.0, 0.9),
    "checkpoint_seconds": (0.0, 1e9),
}


def main() -> ExitCode:
    """Trains to the end, until SIGTERM or to a failure; returns how it ended."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    stop = threading.Event()
    stop_on_signals(stop)
    # Threads of torch that wait for each other must not spin: several runtimes may share the cores of one
    # machine. Read when torch is imported, which is later than this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stay_offline()
    reporter = Reporter(os.environ.get("RUNTIME_JOB", ""))
    try:
        return _tune(reporter, stop)
    except BadInput as error:
        return _fail(reporter, error.message, ExitCode.BAD_INPUT, line=error.line)
    except (ContractError, SetupError) as error:
        return _fail(reporter, str(error), ExitCode.BAD_CONFIGURATION)
    except Exception as error:
        logger.exception("the training failed")
        if _is_out_of_memory(error):
            message = "out of memory; use smaller batch_tokens or max_length, or a flavor with more memory"
            return _fail(reporter, message, ExitCode.INTERNAL)
        return _fail(reporter, f"an error of ours ended the training: {error}", ExitCode.INTERNAL)


def _tune(reporter: Reporter, stop: threading.Event) -> ExitCode:
    environment = TuningEnvironment.from_environment(os.environ)
    if environment.task is not Task.TEXT_GENERATION:
        raise SetupError(
            f"RUNTIME_TASK={environment.task.value} is not tuned by this image; "
            f"it tunes {Task.TEXT_GENERATION.value}"
        )
    _check_ranges(environment)
    _check_writable(Path(environment.output_dir))
    finished = _read_result(Path(environment.output_dir))
    if finished is not None:
        tell_finished(reporter, finished)
        return ExitCode.DONE
    train = read_chats(Path(environment.train_file))
    validation: list[Chat] = []
    if environment.validation_file:
        validation = _read_validation(Path(environment.validation_file))
    environment, is_verified = hold_for_tuning(environment)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # hashlib lets other threads run, so the weights are read while torch is imported.
        digests = {} if is_verified else environment.digests
        checked = pool.submit(verify_digests, Path(environment.model_dir), digests)
        from runtimes.tune.run import run

        checked.result()
    done = run(environment, train=train, validation=validation, reporter=reporter, should_stop=stop.is_set)
    return ExitCode.DONE if done else ExitCode.STOPPED


def _check_ranges(environment: TuningEnvironment) -> None:
    for name, (least, most) in RANGES.items():
        value = getattr(environment, name)
        if not least <= value <= most:
            raise BadInput(f"{name} is {value}; it must be from {least:g} to {most:g}")


def _check_writable(output: Path) -> None:
    """Hours of training must not end at the first thing that is to be saved."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise SetupError(f"RUNTIME_OUTPUT_DIR={output} cannot be written to: {error.strerror}") from error


def _read_validation(path: Path) -> list[Chat]:
    """Errors there carry no line, because an event's line is of the training file."""
    try:
        return read_chats(path)
    except BadInput as error:
        where = f"line {error.line} of " if error.line else ""
        raise BadInput(f"{where}the validation file: {error.message}") from error


def _read_result(output: Path) -> dict[str, Any] | None:
    """The result of an attempt before this one that came to its end."""
    try:
        result: dict[str, Any] = json.loads((output / RESULT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SetupError(f"{output / RESULT_FILE} cannot be read: {error}") from error
    return result


def _is_out_of_memory(error: Exception) -> bool:
    """torch.OutOfMemoryError on a GPU; what torch raises on a CPU is told by its words alone."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "can't allocate memory" in str(error)


def _fail(reporter: Reporter, message: str, code: ExitCode, *, line: int | None = None) -> ExitCode:
    logger.error("%s", message)
    customer = code is ExitCode.BAD_INPUT
    reporter.tell(TrainingEventType.FAILED, step=0, message=message, line=line, customer=customer)
    return code


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Threads of torch may still compute; nothing of theirs is worth waiting for.
    os._exit(exit_code)
