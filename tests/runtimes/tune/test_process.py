"""The container's program as the cluster sees it: its output, its exit code, its answer to SIGTERM."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.contract import ExitCode, TuningEnvironment, parse_event
from runtimes.tune.__main__ import main

ROOT = Path(__file__).parents[3]
MakeEnvironment = Callable[..., TuningEnvironment]


def start(environment: TuningEnvironment, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runtimes.tune"],
        cwd=ROOT,
        env={**os.environ, **environment.to_environment(), **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    output, _ = process.communicate(timeout=90)
    return process.returncode, [event for line in output.splitlines() if (event := parse_event(line))]


def test_sigterm_saves_and_a_second_start_goes_on_to_the_end(make_environment: MakeEnvironment) -> None:
    environment = make_environment("run", epochs=60)
    process = start(environment)
    assert process.stdout is not None
    for line in process.stdout:
        if '"type":"progress"' in line:
            break
    process.send_signal(signal.SIGTERM)
    code, events = finish(process)
    assert (code, events[-1]["type"]) == (ExitCode.STOPPED, "stopped")

    reached = events[-1]["step"]
    code, events = finish(start(environment))
    assert (code, events[0]["resumed_from_step"], events[-1]["type"]) == (ExitCode.DONE, reached, "finished")

    # Started once more, as a cluster may, it has nothing left to do.
    code, again = finish(start(environment))
    assert code == ExitCode.DONE
    assert [{**event, "at": None} for event in again] == [{**events[-1], "at": None}]


def test_a_bad_line_is_told_with_its_number(make_environment: MakeEnvironment, train_file: Path) -> None:
    train_file.write_text(train_file.read_text() + '\n{"messages": "hello"}\n')
    code, events = finish(start(make_environment("run")))
    assert code == ExitCode.BAD_INPUT
    assert [(event["type"], event["line"], event["customer"]) for event in events] == [("failed", 17, True)]
    assert "expected" in events[0]["message"]


def test_a_hyperparameter_out_of_range_is_named(make_environment: MakeEnvironment) -> None:
    code, events = finish(start(make_environment("run", epochs=0)))
    assert (code, events[0]["customer"]) == (ExitCode.BAD_INPUT, True)
    assert "epochs is 0" in events[0]["message"]


def test_weights_that_were_not_approved_are_ours_to_mend(
    make_environment: MakeEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has imported torch already."""
    environment = make_environment("run", digests={"model.safetensors": "0" * 64})
    for name, value in environment.to_environment().items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    events = [event for line in capsys.readouterr().out.splitlines() if (event := parse_event(line))]
    assert (code, events[-1]["type"], events[-1]["customer"]) == (
        ExitCode.BAD_CONFIGURATION,
        "failed",
        False,
    )
    assert "not the file that was approved" in events[-1]["message"]


def test_a_missing_variable_is_named(make_environment: MakeEnvironment) -> None:
    code, events = finish(start(make_environment("run"), RUNTIME_EPOCHS="many"))
    assert code == ExitCode.BAD_CONFIGURATION
    assert "RUNTIME_EPOCHS='many'" in events[0]["message"]


def test_a_folder_that_cannot_be_written_to_is_told_before_the_training(
    make_environment: MakeEnvironment, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # a folder without rights would not stop root
    code, events = finish(
        start(make_environment("run"), RUNTIME_OUTPUT_DIR=str(tmp_path / "file" / "output"))
    )
    assert code == ExitCode.BAD_CONFIGURATION
    assert [event["type"] for event in events] == ["failed"]
    assert "RUNTIME_OUTPUT_DIR" in events[0]["message"]
