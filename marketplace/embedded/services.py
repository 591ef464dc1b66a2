"""PostgreSQL and Valkey of one home, for as long as a block runs: what tests and one-off commands need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from marketplace.embedded import programs
from marketplace.embedded.paths import Home
from marketplace.embedded.postgres import postgres_program
from marketplace.embedded.valkey import valkey_program


@contextmanager
def running_services(
    home: Home, *, database: bool = True, broker: bool = True, durable: bool = True
) -> Iterator[None]:
    """Starts the services that are asked for, and stops them at the end. Raises ProgramFailed."""
    wanted = []
    if database:
        wanted.append(postgres_program(home, durable=durable))
    if broker:
        wanted.append(valkey_program(home))
    with ExitStack() as stack:
        started = []
        for program in wanted:
            log = home.logs / f"{program.name}.log"
            process = programs.start(program, log=log)
            # Called in reverse: ask, then wait.
            stack.callback(programs.wait_until_stopped, program, process)
            stack.callback(programs.ask_to_stop, program, process)
            started.append((program, process, log))
        for program, process, log in started:
            programs.wait_until_ready(program, process, log=log)
        yield
