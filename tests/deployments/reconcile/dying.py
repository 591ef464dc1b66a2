"""Lets the process die after its n-th durable write: a commit of the database, or a call that changes a
cluster.

Death is an exception that nothing catches by accident. What was written stays; what was in memory is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tests.deployments.reconcile.memory_cluster import MemoryCluster


class Died(BaseException):
    """The process is gone."""


class Fuse:
    """Counts durable writes, and burns through after `lives` of them."""

    def __init__(self, *, lives: int | None) -> None:
        self.lives = lives
        self.written = 0

    def burn(self) -> None:
        self.written += 1
        if self.written == self.lives:
            raise Died(f"after {self.written} durable writes")


@contextmanager
def mortal(cluster: MemoryCluster, *, fuse: Fuse) -> Iterator[None]:
    """Counts what is written inside, and dies when the fuse says so."""
    commit = connection.commit

    def commit_and_burn() -> None:
        commit()
        fuse.burn()

    def execute_and_burn(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        # Outside of a transaction a statement is durable as soon as it is done.
        if not connection.in_atomic_block and sql.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            fuse.burn()
        return result

    connection.commit = commit_and_burn  # type: ignore[method-assign]
    cluster.after_write = fuse.burn
    try:
        with connection.execute_wrapper(execute_and_burn):
            yield
    finally:
        connection.commit = commit  # type: ignore[method-assign]
        cluster.after_write = lambda: None
