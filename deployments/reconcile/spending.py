"""What billing has to know of replicas and cannot look up: what those that run have used so far, for
`GET /usage/`, and how long those that have ended lived, to check the ledger against. Reads only: `recording`
writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Q

from deployments.reconcile.kinds import LIVING, RELATED, facts_of, recorded_replicas
from deployments.reconcile.registry import KINDS
from deployments.reconcile.termination import Payer
from deployments.serving.models import Replica
from marketplace.accounts.models import Organization
from marketplace.billing.live import Lifetime, LiveUsage
from marketplace.billing.metering import Gap


def spending(organization: Organization, now: datetime) -> Iterator[LiveUsage]:
    """Each living replica's time up to `now`. Billing leaves out what the ledger holds of it."""
    replicas = recorded_replicas(Q(LIVING, organization=organization), uids=[])
    for kind in KINDS.values():
        rows = kind.rows().filter(public_id__in=replicas).select_related(*RELATED)
        for loaded in kind.load(rows, replicas=replicas):
            for facts in loaded.replicas.values():
                flavor, price = kind.tariff(loaded, revision=facts.revision)
                yield LiveUsage(
                    resource=loaded.row.public_id,
                    resource_name=loaded.row.name,
                    replica_uid=facts.uid,
                    flavor=flavor,
                    region=loaded.row.cluster.region,
                    price=price,
                    stretches=kind.stretches(loaded, facts, until=now),
                )


def lifetimes() -> Iterator[Lifetime]:
    """The life of every replica that has ended, from the start of its container."""
    ended = Replica.objects.exclude(LIVING).filter(started_at__isnull=False)
    for replica in ended.iterator():
        facts = facts_of(replica)
        assert facts.started_at is not None and facts.ended_at is not None  # as filtered
        if facts.started_at < facts.ended_at:
            yield Lifetime(
                replica_uid=facts.uid,
                resource=replica.resource,
                start=facts.started_at,
                end=facts.ended_at,
                outages=[
                    Gap(outage.start, outage.end or facts.ended_at)
                    for outage in facts.outages
                    if outage.payer is Payer.PROVIDER
                ],
            )
