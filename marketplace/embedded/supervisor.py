"""Keeps programs alive: starts them stage by stage, starts again what dies, stops them in reverse.

Why not a library: honcho starts nothing again, supervisord and circus leave the children of a killed manager
behind, and none waits for one program to be ready before it starts the next.

One thread, no locks: `run` looks at every child a few times a second. A signal only sets a flag.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from marketplace.embedded import programs
from marketplace.embedded.console import Console
from marketplace.embedded.programs import Program, ProgramFailed
from marketplace.embedded.state import ComponentState

TICK_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""After running this long, a program's next death counts as its first."""


class Interrupted(Exception):
    """The manager was asked to stop before everything was up."""


def pause_before_restart(deaths: int) -> float:
    """Seconds to wait after the n-th death in a row (from 1): 0.2, 0.4, 0.8 … 30."""
    return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (deaths - 1)))


@dataclass
class Component:
    """A program and what became of it."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # time.monotonic()
    start_again_at: float = 0.0  # time.monotonic(); meaningful while `process` is None
    deaths: int = 0  # in a row
    restarts: int = 0  # in all

    @property
    def state(self) -> ComponentState:
        pid = self.process.pid if self.process is not None else None
        return ComponentState(pid=pid, restarts=self.restarts, log=str(self.log))


class Supervisor:
    """The programs of one manager."""

    def __init__(
        self,
        *,
        logs: Path,
        console: Console,
        stop: threading.Event,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.logs = logs
        self.console = console
        self.stop = stop
        self.changed = changed
        """Called after a program was started or found dead."""
        self.stages: list[list[Component]] = []

    @property
    def components(self) -> list[Component]:
        return [component for stage in self.stages for component in stage]

    def start_stage(self, stage: Sequence[Program]) -> None:
        """Starts programs together and waits until all are ready.

        Raises ProgramFailed when one ends before it is ready: at the first start that is a wrong setup, which
        starting again would not mend. Raises Interrupted when `stop` is set meanwhile.
        """
        components = [Component(program, self.logs / f"{program.name}.log") for program in stage]
        self.stages.append(components)
        for component in components:
            self.console.follow(component.program.name, component.log)
            self._start(component)
        for component in components:
            assert component.process is not None
            programs.wait_until_ready(
                component.program, component.process, log=component.log, idle=self._idle
            )

    def run(self) -> None:
        """Keeps everything alive until `stop` is set."""
        while not self.stop.wait(TICK_SECONDS):
            self.look_after_all()

    def look_after_all(self) -> None:
        """One look at every program: notices deaths, starts again what has waited long enough."""
        now = time.monotonic()
        for component in self.components:
            if component.process is None:
                if now >= component.start_again_at:
                    component.restarts += 1
                    self._start_again(component)
            elif component.process.poll() is not None:
                self._notice_death(component, now=now)
        self.console.catch_up()

    def stop_all(self) -> None:
        """Stops the stages in reverse order, the programs of one stage together."""
        for stage in reversed(self.stages):
            running = [item for item in stage if item.process is not None]
            for component in running:
                assert component.process is not None
                programs.ask_to_stop(component.program, component.process)
            for component in running:
                assert component.process is not None
                programs.wait_until_stopped(component.program, component.process)
                component.process = None
            self.console.catch_up()
        self.stages.clear()

    def _idle(self) -> None:
        self.console.catch_up()
        if self.stop.wait(0.05):
            raise Interrupted

    def _start(self, component: Component) -> None:
        component.process = programs.start(component.program, log=component.log)
        component.started_at = time.monotonic()
        self.changed()

    def _start_again(self, component: Component) -> None:
        try:
            self._start(component)
        except ProgramFailed as error:
            self._schedule(component, why=str(error))

    def _notice_death(self, component: Component, *, now: float) -> None:
        assert component.process is not None
        if now - component.started_at > STABLE_SECONDS:
            component.deaths = 0
        # What it left in its group would hold on to its port or its work.
        programs.kill_group(component.process)
        end = programs.describe_end(component.process.returncode)
        component.process = None
        self._schedule(component, why=f"ended with {end}")
        self.changed()

    def _schedule(self, component: Component, *, why: str) -> None:
        component.deaths += 1
        pause = pause_before_restart(component.deaths)
        component.start_again_at = time.monotonic() + pause
        self.console.say(f"{component.program.name} {why}; starting it again in {pause:.1f} s")
