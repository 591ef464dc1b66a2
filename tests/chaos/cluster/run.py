"""Plays rounds and tells of them.

Imported once the environment names a database, because it imports models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import django

django.setup()

from django.core.management import call_command  # noqa: E402  (only now there are settings and models)

from marketplace.billing.verify import verify_ledger  # noqa: E402
from tests.chaos.cluster.installation import installed  # noqa: E402
from tests.chaos.cluster.rounds import Round  # noqa: E402

REPORT_EVERY = 50


def migrate() -> None:
    call_command("migrate", verbosity=0)


def play(folder: Path, *, seed: int, numbers: Sequence[int], verbose: bool = False) -> int:
    """Plays the rounds; 1 when any was wrong, else 0."""
    wrong = 0
    began = time.monotonic()
    with installed(folder, seed=seed) as installation:
        for count, number in enumerate(numbers, 1):
            round_ = Round(installation, seed=seed, number=number)
            found = round_.play()
            if found or verbose:
                print(f"round {number}:", *round_.story, sep="\n    ")
            if found:
                wrong += 1
                print(f"  WRONG (again: --seed {seed} --only {number}):", *found, sep="\n    ", flush=True)
            if count % REPORT_EVERY == 0:
                pace = (time.monotonic() - began) / count
                print(f"{count} rounds, {wrong} wrong, {pace:.2f} s a round", flush=True)
        report = verify_ledger()
        print(
            f"ledger: {report.replicas} replicas, {report.intervals} intervals, "
            f"{len(report.problems)} problems; our processes died {installation.deaths} times"
        )
        print(*report.problems[:20], sep="\n", end="\n" if report.problems else "")
    print(f"seed {seed}: {len(numbers)} rounds, {wrong} wrong", flush=True)
    return 1 if wrong or report.problems else 0
