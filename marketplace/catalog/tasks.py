"""Celery tasks of imports: doorbells for one pass, and the sweep that rings for imports left behind."""

from __future__ import annotations

from celery import shared_task
from django.db import transaction

from marketplace.catalog.access import probe_token
from marketplace.catalog.imports import Outcome, advance, due_imports
from marketplace.catalog.models import ModelImport

RINGS_AT_ONCE = 100
LONGEST_PASS = 3600
"""Seconds. A pass ends with the hashing of a whole file, and files of 100 GB and slow disks exist. A message
that the broker delivers again meanwhile finds the lease taken."""


@shared_task(time_limit=LONGEST_PASS)
def advance_import(public_id: str) -> str:
    """One pass over one import; rings itself while there is more to do."""
    outcome = advance(public_id)
    if outcome is Outcome.AGAIN:
        advance_import.delay(public_id)
    return outcome.value


@shared_task
def resume_imports() -> int:
    """Rings for every import that is due: after its pause, or because its worker died. Run by beat."""
    due = due_imports().order_by("next_attempt_at").values_list("public_id", flat=True)[:RINGS_AT_ONCE]
    for public_id in due:
        advance_import.delay(public_id)
    return len(due)


@shared_task
def probe_hub_token() -> bool:
    """Learns whether the hub accepts our token, so that plans can tell it. Run by beat."""
    return probe_token()


def ring(row: ModelImport) -> None:
    """Asks for a pass over an import, once the transaction at hand is committed."""
    transaction.on_commit(lambda: advance_import.delay(row.public_id), robust=True)
