"""Celery's part: the tick that keeps the storage tidy."""

from __future__ import annotations

from celery import shared_task

from deployments.tuning import pruning

LONGEST_SECONDS = 3600


@shared_task(time_limit=LONGEST_SECONDS, ignore_result=True)
def prune_storage() -> None:
    """Removes what nothing needs. Twice at once is fine: what is gone is gone."""
    pruning.prune_storage()
