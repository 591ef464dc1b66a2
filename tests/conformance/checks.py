"""Finding the checks and running one of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from runtimes.contract import Task
from tests.conformance import groups
from tests.conformance.target import Target

Run = Callable[[Target], None]
RunCase = Callable[[Target, Any], None]


class Skipped(Exception):
    """The check cannot be made here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One thing that a server does right or wrong."""

    group: str
    name: str
    task: Task
    run: Run

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}"


def cases(table: Mapping[str, Any]) -> Callable[[RunCase], RunCase]:
    """Makes one check of each row of the table: its name and what the function gets beside the server."""

    def mark(function: RunCase) -> RunCase:
        function.cases = table  # type: ignore[attr-defined]
        return function

    return mark


def find_checks() -> list[Check]:
    """All of them, in the order of the modules' names and of the functions in them."""
    return [check for module in pkgutil.iter_modules(groups.__path__) for check in _checks_of(module.name)]


def _checks_of(group: str) -> Iterator[Check]:
    module = importlib.import_module(f"{groups.__name__}.{group}")
    for name, function in vars(module).items():
        if not name.startswith("check_"):
            continue
        sentence = name.removeprefix("check_")
        table = getattr(function, "cases", None)
        if table is None:
            yield Check(group, sentence, module.TASK, function)
            continue
        for row, value in table.items():
            yield Check(group, f"{sentence}[{row}]", module.TASK, partial(_with, function, value))


def _with(function: Callable[[Target, Any], None], value: Any, target: Target) -> None:
    function(target, value)
