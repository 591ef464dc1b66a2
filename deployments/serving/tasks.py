"""Celery's part: the tick that removes expired plans."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from deployments.serving import pruning

LONGEST_SECONDS = 3600


@shared_task(time_limit=LONGEST_SECONDS, ignore_result=True)
def prune_plans() -> None:
    """Removes plans that expired long ago. Twice at once is fine: what is gone is gone."""
    pruning.prune_plans(now=timezone.now())
