"""`manage.py verify_ledger`: recomputes every bill and looks for gaps. Fails loudly, never repairs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.billing.ledger import snapshot
from marketplace.billing.verify import verify_ledger


class Command(BaseCommand):
    help = "Checks that usage intervals tile every replica's life and that bills recompute to the same cent."

    def handle(self, *args: Any, **options: Any) -> None:
        with snapshot():
            report = verify_ledger()
        for problem in report.problems:
            self.stderr.write(problem)
        summary = (
            f"{report.replicas} replicas, {report.intervals} intervals, {report.lines} lines of bills, "
            f"{len(report.problems)} problems"
        )
        if report.problems:
            raise CommandError(summary)
        self.stdout.write(summary)
