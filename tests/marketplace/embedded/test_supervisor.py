import io
import os
import signal
import sys
import threading
from contextlib import contextmanager

import pytest

from marketplace.embedded.console import Console
from marketplace.embedded.programs import Program, ProgramFailed
from marketplace.embedded.supervisor import Interrupted, Supervisor, pause_before_restart
from tests.processes import is_alive, wait_until

FOREVER = "import time; time.sleep(600)"
# Writes down when it was asked to end.
LOGGED_END = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[3], "w")
time.sleep(600)
"""


def python(name, source=FOREVER, *arguments, **options):
    return Program(name=name, command=(sys.executable, "-c", source, *map(str, arguments)), **options)


@contextmanager
def supervising(tmp_path, **options):
    console = Console(io.StringIO())
    supervisor = Supervisor(logs=tmp_path, console=console, stop=threading.Event(), **options)
    try:
        yield supervisor, console.stream
    finally:
        supervisor.stop_all()


def test_the_pauses_before_restarts_grow_up_to_half_a_minute():
    assert [pause_before_restart(deaths) for deaths in (1, 2, 3, 8, 9, 1000)] == [0.2, 0.4, 0.8, 25.6, 30, 30]


def test_it_starts_a_killed_program_again_and_says_so(tmp_path):
    changes = []
    with supervising(tmp_path, changed=lambda: changes.append(1)) as (supervisor, output):
        supervisor.start_stage([python("sleeper")])
        (component,) = supervisor.components
        first = component.process.pid
        os.kill(first, signal.SIGKILL)

        def started_again():
            supervisor.look_after_all()
            return component.process is not None and component.process.pid != first

        wait_until(started_again, what="the restart")
        assert component.state.restarts == 1
        assert "sleeper ended with SIGKILL; starting it again in 0.2 s" in output.getvalue()
        assert len(changes) == 3  # started, died, started


def test_what_a_dead_program_left_in_its_group_is_killed_before_the_restart(tmp_path):
    source = "import os, time; child = os.fork(); child and print(child, flush=True); time.sleep(600)"
    with supervising(tmp_path) as (supervisor, _):
        supervisor.start_stage([python("forker", source)])
        (component,) = supervisor.components
        wait_until(lambda: component.log.read_text().strip() != "", what="the fork")
        child = int(component.log.read_text())
        os.kill(component.process.pid, signal.SIGKILL)

        def noticed():
            supervisor.look_after_all()
            return component.process is None

        wait_until(noticed, what="noticing the death")
        wait_until(lambda: not is_alive(child), what="the end of the child")


def test_it_stops_the_stages_in_reverse(tmp_path):
    order = tmp_path / "order"
    with supervising(tmp_path) as (supervisor, _):
        for name in ("first", "second"):
            started = tmp_path / f"{name}-started"
            program = python(name, LOGGED_END, order, name, started, is_ready=started.exists)
            supervisor.start_stage([program])
        pids = [component.process.pid for component in supervisor.components]
        supervisor.stop_all()
    assert order.read_text().split() == ["second", "first"]
    assert not any(is_alive(pid) for pid in pids)


def test_a_program_that_fails_at_the_first_start_is_not_started_again(tmp_path):
    with supervising(tmp_path) as (supervisor, _), pytest.raises(ProgramFailed, match="exit code 4"):
        supervisor.start_stage([python("broken", "raise SystemExit(4)", is_ready=lambda: False)])


def test_a_stop_while_starting_interrupts_the_start(tmp_path):
    with supervising(tmp_path) as (supervisor, _):
        supervisor.stop.set()
        with pytest.raises(Interrupted):
            supervisor.start_stage([python("slow", is_ready=lambda: False)])


def test_the_console_shows_whole_lines_with_the_name_in_front(tmp_path):
    log, output = tmp_path / "web.log", io.StringIO()
    log.write_text("before\n")
    console = Console(output, width=4)
    console.follow("web", log)
    with log.open("a") as file:
        file.write("one\ntwo\nhal")
    console.catch_up()
    with log.open("a") as file:
        file.write("f\n")
    console.catch_up()
    assert output.getvalue() == "web  | one\nweb  | two\nweb  | half\n"


def test_the_console_empties_a_log_that_has_grown_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("marketplace.embedded.console.LARGEST_LOG_BYTES", 10)
    log, output = tmp_path / "web.log", io.StringIO()
    console = Console(output, width=4)
    console.follow("web", log)
    with log.open("ab") as file:
        file.write(b"a long line\n")
        file.flush()
        console.catch_up()
        file.write(b"more\n")
        file.flush()
        console.catch_up()
    assert (log.with_suffix(".log.1").read_text(), log.read_text()) == ("a long line\n", "more\n")
    assert output.getvalue() == "web  | a long line\nweb  | more\n"
