"""The loop that makes wishes true: load, observe, decide, record, act, until there is nothing left to do.

`reconcile` is idempotent and level-triggered. It looks only at what is wanted and what is there, never at
why it was called, so that calling it too often does nothing and calling it too late is mended by the sweep.
It may die at any point: the next look finds the same wish and other facts, and goes on.

One look:

1. Take the lease of the row. Somebody else has it: they do the work.
2. Read the row and what is recorded of its replicas. No transaction stays open.
3. Observe the cluster.
4. Decide: pure.
5. Record the facts, if they are new, in one transaction, guarded by generation and lease.
6. Take the steps, one call each; what is created gets a namespace that is ready for it.
7. Steps taken change the facts: look again, from 2.
8. Give the lease back, unless the customer has changed the wish meanwhile: then again from 2.

Facts come from an observation made under the lease and never from a call's return value: an object is gone
when it is not seen, not when its deletion was accepted.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Q
from django.utils import timezone

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterError,
    ClusterRejected,
    ClusterUnreachable,
)
from deployments.clusters.port import Cluster, Observation
from deployments.clusters.registry import open_cluster
from deployments.reconcile.conditions import Condition, Problem, conditions_json, reconciled
from deployments.reconcile.deaths import deaths_in, examine
from deployments.reconcile.decision import Decision
from deployments.reconcile.deletion import decide_unseen
from deployments.reconcile.explaining import deletion_explanation, problem_explanation
from deployments.reconcile.kinds import RELATED, Kind, Loaded, changed, recorded_replicas
from deployments.reconcile.leases import Lease, LeaseLost, is_held, take_lease
from deployments.reconcile.problems import incident_of, problem_of
from deployments.reconcile.receipts import asked_of, deletions_of
from deployments.reconcile.recording import Overtaken, record
from deployments.reconcile.registry import kind_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.steps import Action, Step
from deployments.reconcile.tenants import forget, make_ready

log = logging.getLogger(__name__)

LONGEST_ASKED_PAUSE = 60.0
LOOKS = 5
"""Steps that need more looks than this do not lead anywhere: the row steps aside."""


class Outcome(StrEnum):
    """What came of a call."""

    DONE = "done"
    """The row was looked at, and nothing is left to do for now."""
    BUSY = "busy"
    """Somebody else looks at the row now. What has changed since they read it may need another look."""
    RESTING = "resting"
    """The row failed a little while ago, and the caller is patient; or there is no such row."""
    STEPPED_ASIDE = "stepped aside"
    """The cluster did not play along. The row says why, and rests."""


class Unsettled(Exception):
    """The steps were taken and yet are still to be taken."""


def reconcile(
    resource: str,
    *,
    cluster: Cluster | None = None,
    now: Callable[[], datetime] = timezone.now,
    patient: bool = False,
) -> Outcome:
    """Makes the cluster be as the row `resource` (public id) wants it, and the row tell what is there.

    `cluster` is opened from the row unless it is given. `patient` respects the rest of a row that failed.
    Raises what is not the cluster's fault, after the row has stepped aside; LookupError for an id that is
    no workload.
    """
    kind = kind_of(resource)
    lease = take_lease(kind.rows(), resource, patient=patient)
    if lease is None:
        return Outcome.BUSY if is_held(kind.rows(), resource) else Outcome.RESTING
    look = _Look(kind, lease, cluster, now)
    try:
        while True:
            look.run()
            if lease.give_back(generation=look.generation):
                return Outcome.DONE
    except LeaseLost:
        return Outcome.BUSY
    except ClusterError as error:
        log.warning("%s steps aside, incident %s: %s", resource, incident_of(error), error)
        look.tell(problem_of(error))
        lease.step_aside(generation=look.generation, at_least=_asked_pause(error))
        return Outcome.STEPPED_ASIDE
    except Exception:
        incident = uuid.uuid4().hex[:8]
        log.exception("%s steps aside, incident %s", resource, incident)
        look.tell(
            Problem(
                reason="InternalError",
                message=f"An error of ours (incident {incident}). We have been told and try again.",
            )
        )
        lease.step_aside(generation=look.generation)
        raise


class _Look:
    """One call's looks at its row: what was read last, and what was seen last."""

    def __init__(
        self, kind: Kind, lease: Lease, cluster: Cluster | None, now: Callable[[], datetime]
    ) -> None:
        self._kind = kind
        self._lease = lease
        self._cluster = cluster
        self._now = now
        self._loaded: Loaded | None = None
        self._seen: Observation | None = None
        self.generation = 0

    def run(self) -> None:
        """Looks until no step is left to take. Raises ClusterError, LeaseLost, Unsettled and bugs."""
        steps: Sequence[Step] = ()
        conflict: ClusterConflict | None = None
        for _ in range(LOOKS):
            decision = self._once()
            if decision is None:
                continue
            steps = decision.steps
            if not steps:
                return
            conflict = self._act(steps)
        if conflict is not None:
            raise conflict  # it lasts, as of a namespace that somebody deletes: no error of ours
        if steps:
            raise Unsettled("; ".join(map(str, steps)))

    def tell(self, problem: Problem) -> None:
        """Lets the row say what is wrong, with the facts that are known. Never raises."""
        try:
            if self._loaded is None:
                return
            decision = self._explain(self._loaded, problem)
            if decision.has_news:
                record(decision, loaded=self._loaded, kind=self._kind, lease=self._lease)
        except Overtaken:
            pass  # the customer has changed the wish: it is looked at anew
        except Exception:
            log.exception("%s cannot say what is wrong", self._lease.resource)

    def _once(self) -> Decision | None:
        """Steps 2 to 5; None if the customer was faster."""
        self._lease.renew()
        self._loaded, self._seen = None, None
        row = self._row()
        self.generation = row.generation
        self._loaded = Loaded(row=row)
        if self._cluster is None:
            self._cluster = open_cluster(row.cluster)
        namespaces = self._kind.namespaces([row])[row.public_id]
        seen = self._cluster.observe(row.public_id, namespaces=namespaces).of(row.public_id)
        (loaded,) = self._kind.load([row], replicas=_recorded(row.public_id, seen))
        self._loaded = loaded
        gathered = self._kind.gather(loaded, seen, cluster=self._cluster, renew=self._lease.renew)
        decision = self._kind.decide(loaded, seen, now=self._now(), gathered=gathered)
        self._seen = seen
        if decision.has_news:
            autopsies = examine(
                deaths_in(decision.replicas),
                resource=row.public_id,
                namespaces=namespaces,
                cluster=self._cluster,
                renew=self._lease.renew,
            )
            try:
                record(decision, loaded=loaded, kind=self._kind, lease=self._lease, autopsies=autopsies)
            except Overtaken:
                self._seen = None
                return None
        return decision

    def _row(self) -> Any:
        mine = Q(public_id=self._lease.resource, lease_token=self._lease.token)
        row = self._kind.rows().filter(mine).select_related(*RELATED).first()
        if row is None:
            raise LeaseLost(self._lease.resource)
        return row

    def _act(self, steps: Sequence[Step]) -> ClusterConflict | None:
        """Takes the steps, up to the first that somebody else's change stands in the way of: returns that."""
        assert self._cluster is not None and self._loaded is not None
        row = self._loaded.row
        namespaces = {step.ref.namespace for step in steps if step.creates}
        try:
            make_ready(namespaces, organization=row.organization, row=row.cluster, cluster=self._cluster)
        except ClusterConflict as error:
            return error
        for step in steps:
            self._lease.renew()
            log.info("%s: %s", self._lease.resource, step)
            try:
                if step.action is Action.APPLY and step.manifest is not None:
                    self._cluster.apply(step.manifest)
                else:
                    self._cluster.delete(step.ref)
            except ClusterConflict as error:
                # Somebody changed it meanwhile, or its namespace: look again, decide again.
                forget(self._cluster)
                return error
            except ClusterRejected as error:
                raise ClusterRejected(f"{step.ref}: {error}", field=error.field) from error
        return None

    def _explain(self, loaded: Loaded, problem: Problem) -> Decision:
        if self._seen is not None:
            (fresh,) = self._kind.load([self._row()], replicas=_recorded(self._lease.resource, self._seen))
            if fresh.row.generation != loaded.row.generation:
                raise Overtaken(self._lease.resource)
            self._loaded = fresh
            return self._kind.decide(fresh, self._seen, now=self._now(), problem=problem)
        row, now = loaded.row, self._now()
        if row.is_to_go:
            return self._explain_deletion(row, problem, now=now)
        others = [
            Condition(
                type=it["type"], holds=it["status"] == "True", reason=it["reason"], message=it["message"]
            )
            for it in row.conditions
            if it["type"] != reconciled(None).type
        ]
        conditions = conditions_json([*others, reconciled(problem)], before=row.conditions, now=now)
        return Decision(
            columns=changed(
                row,
                conditions=conditions,
                explanation=problem_explanation(problem, before=row.explanation, now=now),
                observed_generation=row.generation,
            )
        )

    def _explain_deletion(self, row: Any, problem: Problem, *, now: datetime) -> Decision:
        """What is left cannot be seen. A deadline passes all the same."""
        if row.deleted_at is not None:
            # It was seen to be gone, and not to see it now says nothing else. No sweep would mend the word.
            return Decision(columns=changed(row, observed_generation=row.generation))
        deletion = deletions_of([row.public_id]).get(row.public_id)
        deleting = decide_unseen(asked_of(row, deletion, now=now), now=now, problem=problem)
        conditions = conditions_json(deleting.conditions, before=row.conditions, now=now)
        columns = changed(
            row,
            conditions=conditions,
            explanation=deletion_explanation(deleting, Observation(), before=row.explanation, now=now),
            observed_generation=row.generation,
            **({"state": row.GOING_STATE} if row.GOING_STATE else {}),
        )
        return Decision(columns=columns, deletion=deleting.record, happenings=deleting.happenings)


def _recorded(resource: str, seen: Observation) -> dict[str, dict[str, ReplicaFacts]]:
    return recorded_replicas(Q(resource=resource), uids=[pod.uid for pod in seen.pods])


def _asked_pause(error: ClusterError) -> float:
    """Seconds that the cluster asks to be left alone for; not more than a minute, whatever it says."""
    asked = error.retry_after if isinstance(error, ClusterUnreachable) else None
    return min(asked or 0.0, LONGEST_ASKED_PAUSE)
