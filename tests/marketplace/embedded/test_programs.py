import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.embedded import programs
from marketplace.embedded.programs import Program, ProgramFailed
from tests.processes import is_alive, wait_until

ROOT = Path(__file__).parents[3]
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def python(source: str, **options) -> Program:
    return Program(name="program", command=(sys.executable, "-c", source), **options)


def test_it_writes_the_output_of_a_program_to_its_log(tmp_path):
    log = tmp_path / "logs" / "program.log"
    process = programs.start(python("print('hello')"), log=log)
    assert process.wait(10) == 0
    assert log.read_text() == "hello\n"


def test_it_passes_the_environment_of_the_program(tmp_path):
    program = python("import os; print(os.environ['COLOR'])", environment={"COLOR": "green"})
    programs.start(program, log=tmp_path / "log").wait(10)
    assert (tmp_path / "log").read_text() == "green\n"


def test_it_says_which_program_cannot_be_executed(tmp_path):
    with pytest.raises(ProgramFailed, match=r"ghost cannot be started: .*no-such-file"):
        programs.start(Program(name="ghost", command=("/no-such-file",)), log=tmp_path / "log")


def test_a_program_that_ends_before_it_is_ready_fails_with_its_exit_code(tmp_path):
    program = python("raise SystemExit(7)", is_ready=lambda: False)
    process = programs.start(program, log=tmp_path / "log")
    with pytest.raises(ProgramFailed, match="program ended with exit code 7 before it was ready; see .*log"):
        programs.wait_until_ready(program, process, log=tmp_path / "log")


def test_a_program_that_is_never_ready_fails_after_its_time(tmp_path):
    program = python("import time; time.sleep(600)", is_ready=lambda: False, ready_seconds=0.1)
    process = programs.start(program, log=tmp_path / "log")
    try:
        with pytest.raises(ProgramFailed, match="was not ready after 0 s"):
            programs.wait_until_ready(program, process, log=tmp_path / "log")
    finally:
        programs.kill_group(process)


def test_a_program_that_ignores_its_stop_signal_is_killed_with_its_children(tmp_path):
    log = tmp_path / "log"
    program = python(STUBBORN, stop_seconds=0.2)
    process = programs.start(program, log=log)
    wait_until(lambda: log.read_text().strip() != "", what="the child's pid")
    child = int(log.read_text())

    programs.ask_to_stop(program, process)
    programs.wait_until_stopped(program, process)

    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), what="the end of the child")


def test_a_program_dies_with_a_parent_that_is_killed(tmp_path):
    source = """
import sys, time
from pathlib import Path
from marketplace.embedded import programs
child = programs.start(
    programs.Program(name="child", command=(sys.executable, "-c", "import time; time.sleep(600)")),
    log=Path(sys.argv[1]),
)
print(child.pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", source, str(tmp_path / "log")]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        assert is_alive(child)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), what="the end of the child")


@pytest.mark.parametrize(
    ("returncode", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_it_describes_how_a_program_ended(returncode, text):
    assert programs.describe_end(returncode) == text
