"""Celery's part: carrying doorbells and ticks. A task takes an id, is short, and may run twice.

Whoever changes a wish rings with `ring_on_commit`. Watchers and the sweep ring with `ring`, which lets many
bells for one resource become one. A bell that is lost costs a few seconds: the sweep.
"""

from __future__ import annotations

from celery import shared_task
from celery.signals import worker_init
from django.core.cache import cache
from django.db import transaction

from deployments.clusters.registry import import_implementations
from deployments.reconcile import sweep as sweeping
from deployments.reconcile.reconciler import Outcome, reconcile

QUIET_SECONDS = 5
"""A bell that was rung and not yet answered makes further ones needless, for so long at most."""
STALE_SECONDS = 60
"""A bell that nobody has answered by then is thrown away: the sweep has rung again long since."""
BUSY_SECONDS = 1


@worker_init.connect
def prepare_worker(**_: object) -> None:
    """Before its processes are forked: they share the memory, and none keeps its first customer waiting."""
    import_implementations()


@shared_task(ignore_result=True)
def reconcile_one(resource: str, patient: bool = False) -> None:
    """Looks at one deployment or fine-tuning job (public id)."""
    # Answered from here on: what happens now may come after our look, and has to ring anew.
    cache.delete(_bell(resource))
    if reconcile(resource, patient=patient) is Outcome.BUSY:
        # Whoever looks at it may have read the facts before what we were rung for.
        ring(resource, patient=patient, after=BUSY_SECONDS)


@shared_task(ignore_result=True)
def sweep() -> None:
    """Looks at everything; does nothing while another sweep is at it."""
    sweeping.sweep(ring=ring)


def ring(resource: str, *, patient: bool = False, after: float = 0) -> None:
    """Asks for a look at a resource, `after` some seconds, unless somebody has just done so."""
    if cache.add(_bell(resource), 1, timeout=QUIET_SECONDS + int(after)):
        reconcile_one.apply_async((resource,), {"patient": patient}, countdown=after, expires=STALE_SECONDS)


def ring_on_commit(resource: str) -> None:
    """Asks for a look once the transaction at hand is committed. A broker that is down fails nobody."""
    transaction.on_commit(lambda: reconcile_one.delay(resource), robust=True)


def _bell(resource: str) -> str:
    return f"bell:{resource}"
