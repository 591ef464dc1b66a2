"""`manage.py wait_for_migrations`: returns when the database has every migration of this release.

What serves must not start before that, and on a cluster nothing else puts a start after the end of a job. A
database that is ahead is fine: an older release serves on while a newer one migrates.
"""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

LOOK_EVERY_SECONDS = 1.0


class Command(BaseCommand):
    help = "Waits until the database has every migration of this release."

    requires_system_checks = ()  # they ask for more than this needs, and it only waits

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=600.0, help="how long at most (default: 600)")

    def handle(self, *args: Any, seconds: float, **options: Any) -> None:
        deadline = time.monotonic() + seconds
        told = ""
        while missing := what_is_missing():
            if missing != told:
                self.stdout.write(f"waiting: {missing}")
                self.stdout.flush()
                told = missing
            if time.monotonic() >= deadline:
                raise CommandError(f"not within {seconds:g} s: {missing}")
            time.sleep(min(LOOK_EVERY_SECONDS, max(0.0, deadline - time.monotonic())))
        self.stdout.write("the database is up to date")


def what_is_missing() -> str:
    """The first migration that the database lacks, or why it cannot be asked; empty when none is missing."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        return f"the database does not answer: {str(error).strip()}"
    if not plan:
        return ""
    first = plan[0][0]
    return f"{len(plan)} migrations are missing, the first is {first.app_label}.{first.name}"
