"""Workspaces, for the reconciler: a notebook server while it is wanted, and a volume until the deletion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import QuerySet

from deployments.clusters.port import Cluster, Manifest, Observation
from deployments.clusters.registry import site_of
from deployments.reconcile.changes import endings, outage_news, replica_changes
from deployments.reconcile.conditions import Problem, conditions_json, problem_in
from deployments.reconcile.decision import Decision, Happening, ReplicaChange
from deployments.reconcile.deletion import decide_deletion
from deployments.reconcile.explaining import deletion_explanation, serving_explanation
from deployments.reconcile.kinds import Loaded, changed, namespaces_of, standing_problem
from deployments.reconcile.manifests import workspace_manifests
from deployments.reconcile.receipts import asked_of, deletions_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.serving import EVENT_REASONS
from deployments.reconcile.status import State
from deployments.reconcile.steps import plan_steps
from deployments.reconcile.usage import serving_stretches
from deployments.reconcile.workspace_status import workspace_status
from deployments.serving.models import DesiredState
from deployments.serving.spec import WorkspaceSpec
from deployments.workspaces.models import Workspace
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price
from marketplace.hardware.models import Flavor


class Workspaces:
    """The kind of workload that a person works in."""

    def rows(self) -> QuerySet[Workspace]:
        """All rows."""
        return Workspace.objects.all()

    def unfinished(self) -> QuerySet[Workspace]:
        """Every workspace that is not deleted: a paused one too must be shown to hold nothing."""
        return Workspace.objects.filter(deleted_at__isnull=True)

    def load(
        self, rows: Iterable[Workspace], *, replicas: Mapping[str, Mapping[str, ReplicaFacts]]
    ) -> list[Loaded]:
        """The rows, and how far those are that are to go: a workspace has no revisions."""
        rows = list(rows)
        deletions = deletions_of([row.public_id for row in rows if row.is_to_go])
        return [
            Loaded(
                row=row,
                deletion=deletions.get(row.public_id),
                replicas=replicas.get(row.public_id, {}),
            )
            for row in rows
        ]

    def namespaces(self, rows: Collection[Workspace]) -> Mapping[str, frozenset[str]]:
        """The one of its specification, which never changes."""
        return {
            row.public_id: namespaces_of(row, [row.spec.get("resources", {}).get("attachment")])
            for row in rows
        }

    def gather(
        self, loaded: Loaded, seen: Observation, *, cluster: Cluster, renew: Callable[[], object]
    ) -> None:
        """Nothing: the observation tells all."""

    def decide(
        self,
        loaded: Loaded,
        seen: Observation,
        *,
        now: datetime,
        gathered: Any = None,
        problem: Problem | None = None,
    ) -> Decision:
        """What is wanted, then what to do, then what all of it means."""
        row: Workspace = loaded.row
        problem_now = standing_problem(row, problem=problem, stored=problem_in(row.conditions))
        if row.is_to_go:
            return self._delete(loaded, seen, now=now, problem=problem_now)
        runs = row.desired_state == DesiredState.RUNNING
        why = "it is not as wanted any more" if runs else "the workspace is paused"
        steps = plan_steps(wanted_manifests(row), seen, unwanted=why)
        status = workspace_status(
            runs=runs,
            state_before=row.state,
            seen=seen,
            problem=problem_now,
            settled=not steps and problem is None,
        )
        changes = self._changes(loaded, seen, now=now, stop=None if runs else row.stop_requested_at or now)
        return Decision(
            columns=changed(
                row,
                state=status.state.value,
                conditions=conditions_json(status.conditions, before=row.conditions, now=now),
                explanation=serving_explanation(status, seen, spec=row.spec, before=row.explanation, now=now),
                observed_generation=row.generation,
            ),
            replicas=changes,
            happenings=(
                *outage_news(changes),
                *endings(changes),
                *_transition(row, status.state, status.conditions[0].message),
            ),
            steps=steps,
        )

    def _delete(
        self, loaded: Loaded, seen: Observation, *, now: datetime, problem: Problem | None
    ) -> Decision:
        """Nothing of the workspace is read here but its id and its wish: see `deletion`."""
        row: Workspace = loaded.row
        deleting = decide_deletion(
            asked_of(row, loaded.deletion, now=now), seen, now=now, problem=problem, noun="workspace"
        )
        state = State.DELETED if deleting.is_gone else State.DELETING
        changes = self._changes(loaded, seen, now=now, stop=row.stop_requested_at or now)
        return Decision(
            columns=changed(
                row,
                state=state.value,
                conditions=conditions_json(deleting.conditions, before=row.conditions, now=now),
                explanation=deletion_explanation(deleting, seen, before=row.explanation, now=now),
                deleted_at=row.deleted_at or (now if deleting.is_gone else None),
                observed_generation=row.generation,
            ),
            replicas=changes,
            deletion=deleting.record,
            happenings=(
                *endings(changes),
                *_transition(row, state, deleting.conditions[0].message),
                *deleting.happenings,
            ),
            steps=deleting.steps,
        )

    def _changes(
        self, loaded: Loaded, seen: Observation, *, now: datetime, stop: datetime | None
    ) -> tuple[ReplicaChange, ...]:
        return replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=lambda replica: stop,
            stretches=partial(self.stretches, loaded),
            now=now,
            observed_at=loaded.row.cluster.observed_at,
            pauses=loaded.row.pause_spans,
        )

    def stretches(
        self, loaded: Loaded, replica: ReplicaFacts, *, until: datetime | None = None
    ) -> list[Stretch]:
        """Starting, then serving."""
        return serving_stretches(replica, until=until, pauses=loaded.row.pause_spans)

    def specs(self, loaded: Loaded) -> Mapping[int | None, Mapping[str, Any]]:
        """The workspace's one."""
        return {None: loaded.row.spec}

    def tariff(self, loaded: Loaded, *, revision: int | None) -> tuple[Flavor, Price]:
        """The workspace's."""
        return loaded.row.flavor, loaded.row.price


def wanted_manifests(row: Workspace) -> tuple[Manifest, ...]:
    """The objects that should be on the cluster now."""
    return workspace_manifests(
        WorkspaceSpec.from_json(row.spec),
        runs=row.desired_state == DesiredState.RUNNING,
        token_number=row.token_number,
        token_hash=row.token_hash,
        site=site_of(row.cluster),
    )


def _transition(row: Workspace, state: State, message: str) -> tuple[Happening, ...]:
    return () if state == row.state else (Happening(reason=EVENT_REASONS[state], message=message),)
