"""Fine-tuning jobs, for the reconciler: one Job object, what its replicas report, and how it ends.

A job that has ended stays ended: its state is final, and nothing is wanted of the cluster any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Q, QuerySet

from deployments.clusters.port import Cluster, Observation
from deployments.clusters.registry import site_of
from deployments.reconcile.changes import endings, replica_changes
from deployments.reconcile.conditions import Problem, conditions_json, problem_in
from deployments.reconcile.decision import Decision, Happening, ReplicaChange
from deployments.reconcile.deletion import decide_deletion
from deployments.reconcile.explaining import deletion_explanation, job_explanation, reason_of_failure
from deployments.reconcile.kinds import Loaded, changed, namespaces_of, standing_problem
from deployments.reconcile.manifests import tuning_manifests
from deployments.reconcile.reading import Reading, read_logs
from deployments.reconcile.receipts import asked_of, deletions_of
from deployments.reconcile.replicas import ReplicaFacts, observed_replicas
from deployments.reconcile.status import Job, job_status, run_failed, run_succeeded
from deployments.reconcile.steps import plan_steps
from deployments.reconcile.termination import Payer, TerminationReason, customer_text, who_pays
from deployments.reconcile.usage import training_stretches
from deployments.reconcile.waiting import longest_wait
from deployments.serving.spec import TuningSpec
from deployments.tuning.models import DesiredJobState, FineTuningJob, JobState
from deployments.tuning.progress import fold_event
from deployments.tuning.results import ResultError, publish_result
from deployments.tuning.storage import prepare_output
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price
from marketplace.catalog.models import ModelVersion
from marketplace.hardware.models import Flavor
from runtimes.contract import TrainingEventType

EVENT_REASONS = {
    Job.QUEUED: "Queued",
    Job.RUNNING: "TrainingStarted",
    Job.SUCCEEDED: "Succeeded",
    Job.FAILED: "Failed",
    Job.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What was fetched before deciding about a job."""

    reading: Reading
    result: ModelVersion | None = None
    """The published result of a run that succeeded."""
    refusal: str = ""
    """Why the output of a run that succeeded could not be published."""


class Tuning:
    """The kind of workload that trains and ends."""

    def rows(self) -> QuerySet[FineTuningJob]:
        """All rows."""
        return FineTuningJob.objects.all()

    def unfinished(self) -> QuerySet[FineTuningJob]:
        """Jobs that have not ended, and those that are to go."""
        going = Q(desired_state=DesiredJobState.DELETED, deleted_at__isnull=True)
        return FineTuningJob.objects.filter(Q(state__in=[JobState.QUEUED, JobState.RUNNING]) | going)

    def load(
        self, rows: Iterable[FineTuningJob], *, replicas: Mapping[str, Mapping[str, ReplicaFacts]]
    ) -> list[Loaded]:
        """The rows, and how far those are that are to go: a job has no revisions."""
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

    def namespaces(self, rows: Collection[FineTuningJob]) -> Mapping[str, frozenset[str]]:
        """The one of its specification, which never changes."""
        return {
            row.public_id: namespaces_of(row, [row.spec.get("resources", {}).get("attachment")])
            for row in rows
        }

    def gather(
        self, loaded: Loaded, seen: Observation, *, cluster: Cluster, renew: Callable[[], object]
    ) -> Gathered | None:
        """Reads the logs on and, once a run has succeeded and told all, publishes its result. A run that is
        about to begin finds the folder that it writes into.
        """
        row: FineTuningJob = loaded.row
        if row.is_to_go:
            return None
        if _is_wanted(row) and seen.is_empty:
            prepare_output(row.public_id)
        reading = read_logs(
            row.public_id, seen, replica=row.log_replica, position=row.log_position, cluster=cluster
        )
        if not (reading.is_complete and run_succeeded(seen, nodes=_spec(row).nodes) and _is_wanted(row)):
            return Gathered(reading=reading)
        try:
            return Gathered(reading=reading, result=publish_result(job=row, renew=renew))
        except ResultError as error:
            return Gathered(reading=reading, refusal=str(error))

    def decide(
        self,
        loaded: Loaded,
        seen: Observation,
        *,
        now: datetime,
        gathered: Gathered | None = None,
        problem: Problem | None = None,
    ) -> Decision:
        """How the run ended if it did, then what is wanted, then what to do, then what all of it means."""
        row: FineTuningJob = loaded.row
        if row.is_to_go:
            return self._delete(loaded, seen, now=now, problem=problem)
        canceled = row.desired_state == DesiredJobState.CANCELLED
        changes = replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=lambda replica: row.stop_requested_at if canceled else None,
            stretches=partial(self.stretches, loaded),
            now=now,
            observed_at=row.cluster.observed_at,
        )
        reported = _reported(row, gathered)
        problem = standing_problem(row, problem=problem, stored=problem_in(row.conditions))
        verdict, error = _verdict(loaded, seen, gathered, reported["error"], problem, now)
        wanted = (
            tuning_manifests(_spec(row), site=site_of(row.cluster))
            if verdict is None and _is_wanted(row)
            else ()
        )
        steps = plan_steps(wanted, seen, unwanted=_unwanted(row, verdict))
        status = job_status(
            state_before=row.state,
            canceled=canceled,
            started=_has_started(row, changes),
            seen=seen,
            verdict=verdict,
            error=error["message"] if error else "",
            problem=problem,
            settled=not steps,
        )
        ended = _ended(loaded, seen, now)
        explanation = row.explanation
        if not Job(row.state).is_final:
            explanation = job_explanation(
                status,
                seen,
                spec=row.spec,
                ended=reason_of_failure(error, ended=ended.value if ended else "", problem=problem),
                before=row.explanation,
                now=now,
            )
        columns = changed(
            row,
            **reported | {"error": error},
            state=status.state.value,
            explanation=explanation,
            conditions=conditions_json(status.conditions, before=row.conditions, now=now),
            observed_generation=row.generation,
        )
        if gathered is not None and gathered.result is not None and status.state is Job.SUCCEEDED:
            columns |= changed(row, result=gathered.result)
        return Decision(
            columns=columns,
            replicas=changes,
            training=gathered.reading.records if gathered else (),
            happenings=(*endings(changes), *_transitions(row, status.state, status.conditions[0].message)),
            steps=steps,
            look_again=_look_again(row, seen, gathered),
        )

    def _delete(
        self, loaded: Loaded, seen: Observation, *, now: datetime, problem: Problem | None
    ) -> Decision:
        """The job stays what it ended as; nothing else of it is read here: see `deletion`."""
        row: FineTuningJob = loaded.row
        problem = standing_problem(row, problem=problem, stored=problem_in(row.conditions))
        deleting = decide_deletion(
            asked_of(row, loaded.deletion, now=now), seen, now=now, problem=problem, noun="job"
        )
        changes = replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=lambda replica: row.stop_requested_at,
            stretches=partial(self.stretches, loaded),
            now=now,
            observed_at=row.cluster.observed_at,
        )
        return Decision(
            columns=changed(
                row,
                conditions=conditions_json(deleting.conditions, before=row.conditions, now=now),
                explanation=deletion_explanation(deleting, seen, before=row.explanation, now=now),
                deleted_at=row.deleted_at or (now if deleting.is_gone else None),
                observed_generation=row.generation,
            ),
            replicas=changes,
            deletion=deleting.record,
            happenings=(*endings(changes), *deleting.happenings),
            steps=deleting.steps,
        )

    def stretches(
        self, loaded: Loaded, replica: ReplicaFacts, *, until: datetime | None = None
    ) -> list[Stretch]:
        """Training."""
        return training_stretches(replica, until=until)

    def specs(self, loaded: Loaded) -> Mapping[int | None, Mapping[str, Any]]:
        """The job's one."""
        return {None: loaded.row.spec}

    def tariff(self, loaded: Loaded, *, revision: int | None) -> tuple[Flavor, Price]:
        """The job's."""
        return loaded.row.flavor, loaded.row.price


def _spec(row: FineTuningJob) -> TuningSpec:
    return TuningSpec.from_json(row.spec)


def _is_wanted(row: FineTuningJob) -> bool:
    return row.desired_state == DesiredJobState.RUNNING and not Job(row.state).is_final


def _look_again(row: FineTuningJob, seen: Observation, gathered: Gathered | None) -> bool:
    """A run that goes on writes lines, and one that has ended is to be read to its end."""
    if not _is_wanted(row):
        return False
    if gathered is not None:
        return not gathered.reading.is_complete
    has_ended = run_succeeded(seen, nodes=_spec(row).nodes) or run_failed(seen)
    return has_ended or any(pod.started_at for pod in seen.pods)


def _reported(row: FineTuningJob, gathered: Gathered | None) -> dict[str, Any]:
    """The columns that events of the run fill."""
    columns = {
        "progress": row.progress,
        "error": row.error,
        "log_replica": row.log_replica,
        "log_position": row.log_position,
    }
    if gathered is None:
        return columns
    reading = gathered.reading
    columns |= {"log_replica": reading.replica, "log_position": reading.position}
    for record in reading.records:
        event = record.event
        columns["progress"] = fold_event(columns["progress"], event)
        if event["type"] == TrainingEventType.FAILED:
            line = event.get("line")
            columns["error"] = {
                "message": str(event.get("message") or "The training failed."),
                "line": line if isinstance(line, int) else None,
                "customer": event.get("customer") is True,
            }
        elif event["type"] == TrainingEventType.STARTED:
            columns["error"] = None  # of an earlier try
    return columns


def _verdict(
    loaded: Loaded,
    seen: Observation,
    gathered: Gathered | None,
    reported: dict[str, Any] | None,
    problem: Problem | None,
    now: datetime,
) -> tuple[Job | None, dict[str, Any] | None]:
    """How the run ended, None while it goes on; and the error to show."""
    row: FineTuningJob = loaded.row
    state = Job(row.state)
    if state.is_final:
        return state, row.error
    if row.desired_state == DesiredJobState.CANCELLED:
        return None, reported
    if problem is not None and problem.is_final:
        return Job.FAILED, {"message": problem.message, "line": None, "customer": False}
    if run_succeeded(seen, nodes=_spec(row).nodes):
        if gathered is not None and gathered.refusal:
            return Job.FAILED, {"message": gathered.refusal, "line": None, "customer": False}
        published = gathered is not None and gathered.result is not None
        return (Job.SUCCEEDED, None) if published else (None, reported)
    if run_failed(seen):
        if gathered is None or not gathered.reading.is_complete:
            return None, reported  # its log may still say why
        return Job.FAILED, reported or _error_of(loaded, seen, now)
    wait = longest_wait(seen.pods)
    if wait.is_hopeless:
        return Job.FAILED, reported or {"message": wait.message, "line": None, "customer": False}
    return None, reported


def _error_of(loaded: Loaded, seen: Observation, now: datetime) -> dict[str, Any]:
    """What to show of a failed run whose log does not say why: how its last replica ended."""
    ended = _ended(loaded, seen, now)
    if ended is None:
        return {"message": "The training failed without a reason.", "line": None, "customer": False}
    by_customer = who_pays(ended) is Payer.CUSTOMER
    return {"message": customer_text(ended), "line": None, "customer": by_customer}


def _ended(loaded: Loaded, seen: Observation, now: datetime) -> TerminationReason | None:
    """How the newest replica that has ended did so."""
    replicas = observed_replicas(
        seen.pods, recorded=loaded.replicas, at=now, observed_at=loaded.row.cluster.observed_at
    )
    ended = [replica.termination for replica in replicas if replica.termination is not None]
    return ended[-1] if ended else None


def _has_started(row: FineTuningJob, changes: Sequence[ReplicaChange]) -> bool:
    return row.state == JobState.RUNNING or any(change.facts.started_at for change in changes)


def _unwanted(row: FineTuningJob, verdict: Job | None) -> str:
    if row.desired_state == DesiredJobState.CANCELLED:
        return "the job is canceled"
    return f"the job has {verdict}" if verdict else "it is not part of the job"


def _transitions(row: FineTuningJob, state: Job, message: str) -> tuple[Happening, ...]:
    if state == row.state:
        return ()
    return (Happening(reason=EVENT_REASONS[state], message=message),)
