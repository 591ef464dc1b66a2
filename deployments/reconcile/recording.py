"""Writes what a look has found: all of it in one short transaction, or none of it.

The row is changed only while it carries the generation that was looked at and the token of the lease. A
customer who changes the wish meanwhile wins; the look is repeated. A replica's end and what it is billed for
are written together, so neither can be there without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from deployments.reconcile.deaths import Autopsy
from deployments.reconcile.decision import Decision, ReplicaChange, TrainingRecord
from deployments.reconcile.kinds import Kind, Loaded, columns_of
from deployments.reconcile.leases import Lease
from deployments.reconcile.receipts import record_deletion
from deployments.reconcile.usage import unrecorded
from deployments.serving.events import record_fact
from deployments.serving.models import Replica, Revision
from deployments.serving.postmortems import keep_post_mortems
from deployments.tuning.models import Checkpoint, FineTuningJob, TrainingEvent
from marketplace.billing.ledger import record_usage, recorded_stretches
from runtimes.contract import TrainingEventType


class Overtaken(Exception):
    """The row has changed since it was read. Look again."""


def record(
    decision: Decision, *, loaded: Loaded, kind: Kind, lease: Lease, autopsies: Sequence[Autopsy] = ()
) -> None:
    """Writes the facts of a decision. Raises Overtaken, having written nothing, if the row has changed."""
    row = loaded.row
    with transaction.atomic():
        # First, because this UPDATE locks the row until the end of the transaction.
        current = kind.rows().filter(pk=row.pk, generation=row.generation, lease_token=lease.token)
        if not current.update(**decision.columns or {"observed_generation": row.observed_generation}):
            raise Overtaken(row.public_id)
        for number, columns in decision.revisions.items():
            Revision.objects.filter(deployment=row, number=number).update(**columns)
        for change in decision.replicas:
            _record_replica(change, loaded=loaded, kind=kind)
        if decision.deletion is not None:
            record_deletion(row, decision.deletion)
        if decision.training:
            _record_training(row, decision.training)
        keep_post_mortems(row, autopsies, specs=kind.specs(loaded))
        for happening in decision.happenings:
            record_fact(row, reason=happening.reason, message=happening.message)


def _record_replica(change: ReplicaChange, *, loaded: Loaded, kind: Kind) -> None:
    row = loaded.row
    facts = change.facts
    Replica.objects.update_or_create(
        uid=facts.uid,
        defaults=columns_of(facts),
        create_defaults=columns_of(facts)
        | {"organization": row.organization, "resource": row.public_id, "cluster": row.cluster},
    )
    if not change.stretches:
        return
    flavor, price = kind.tariff(loaded, revision=facts.revision)
    held = recorded_stretches([facts.uid]).get(facts.uid, [])
    record_usage(
        organization=row.organization,
        resource=row.public_id,
        resource_name=row.name,
        replica_uid=facts.uid,
        flavor=flavor,
        region=row.cluster.region,
        price=price,
        stretches=unrecorded(change.stretches, recorded=held),
    )


def _record_training(job: FineTuningJob, records: tuple[TrainingRecord, ...]) -> None:
    """Each line once, however often it was read."""
    TrainingEvent.objects.bulk_create(
        (_training_event(job, record) for record in records), ignore_conflicts=True
    )
    Checkpoint.objects.bulk_create(
        (
            Checkpoint(
                job=job,
                step=record.event["step"],
                path=str(record.event.get("path", ""))[:200],
                created_at=record.event["at"],
            )
            for record in records
            if record.event["type"] == TrainingEventType.CHECKPOINT
        ),
        ignore_conflicts=True,
    )


def _training_event(job: FineTuningJob, record: TrainingRecord) -> TrainingEvent:
    columns = ("type", "step", "at", "job")
    data: dict[str, Any] = {key: value for key, value in record.event.items() if key not in columns}
    return TrainingEvent(
        job=job,
        replica_uid=record.replica_uid,
        line=record.line,
        type=record.event["type"],
        step=record.event["step"],
        at=record.event["at"],
        data=data,
    )
