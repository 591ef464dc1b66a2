"""Brings one pod at a time closer to what it should be: starts, watches, restarts and stops its container.

`advance` may be called at any time and any number of times. It looks at the facts (the run's files and lock,
the probes, the clock), does at most one thing, and returns the pod as it now is. What it needs to remember is
in the pod and in the run's files, so that a node that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from deployments.clusters.images import UnknownImage
from deployments.clusters.local import attempts
from deployments.clusters.local.attempts import Attempt, Exit, Trace
from deployments.clusters.local.containers import ConfigurationError, Places, ReadData, build_instruction
from deployments.clusters.local.pods import Phase, Pod
from deployments.clusters.local.probes import Health, keep_asking
from deployments.clusters.local.store import Store

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 30
FORGIVEN_AFTER = timedelta(minutes=10)
"""A run this long wipes out the crashes before it, as the kubelet does."""
KILLED = 137
"""Exit code reported for a container whose end nobody saw: 128 + SIGKILL."""
RETRY_SECONDS = 10
"""After a start that failed before any process: unknown image, missing Secret."""
STARTING_LOOK = timedelta(milliseconds=10)
"""How soon to look whether a shim has begun; it takes about this long and then announces itself by a file."""


@dataclass
class Run:
    """A container that runs now, and what its probes say."""

    attempt: Attempt
    health: Health
    asking: asyncio.Task[None] | None = None


@dataclass
class Kubelet:
    """The containers of this node. Used by the one node process, in its event loop."""

    store: Store
    places: Places
    read_data: ReadData
    wake: Callable[[], None]
    """Asks for another pass; called when a container ended or a probe changed its mind."""
    runs: dict[str, Run] = field(default_factory=dict)
    _not_before: dict[str, datetime] = field(default_factory=dict)
    """When a pod that could not be started is tried again, by uid."""

    # --- Finding and losing runs ---------------------------------------------------------------------------

    def recover(self, pod: Pod, *, now: datetime) -> Pod:
        """What became of the pod's container while no node was looking."""
        folder = self.store.attempts(pod.uid)
        number = max(attempts.newest(folder), pod.attempt)
        if not number or not (pod.running or number > pod.attempt):
            return pod
        found = attempts.trace(folder, number)
        if found is Trace.ALIVE:
            attempt = Attempt.adopt(folder, number)
            if attempt is None:  # between two states: it is about to begin, or has just ended
                return replace(pod, attempt=number, running=True, attempt_started_at=None)
            logger.info("pod %s: found its container running", pod.name)
            self._follow(pod, attempt, Health(startup_done=pod.startup_done, ready=pod.ready))
            return replace(pod, attempt=number, running=True)
        if found is Trace.NONE and number > attempts.newest(folder):  # the files are gone
            return self._lost(pod, number)
        if found is Trace.NONE:
            attempts.discard(folder, number)
            return replace(pod, attempt=number - 1, running=False)
        if found is Trace.LOST:
            attempts.kill_escaped(pod.uid, number)
            return self._lost(pod, number)
        return self._ended(replace(pod, attempt=number), now=now)

    def kill_all(self) -> None:
        """Ends every container's grace period."""
        for run in self.runs.values():
            run.attempt.kill()

    def release(self) -> None:
        """Lets go of all containers without touching them."""
        for run in self.runs.values():
            self._stop_following(run)
            run.attempt.release()
        self.runs.clear()

    def _follow(self, pod: Pod, attempt: Attempt, health: Health) -> None:
        loop = asyncio.get_running_loop()
        run = self.runs[pod.uid] = Run(attempt, health)
        loop.add_reader(attempt, self.wake)
        run.asking = loop.create_task(keep_asking(health, pod.container, ip=pod.ip, changed=self.wake))
        run.asking.add_done_callback(_report_failure)

    def _stop_following(self, run: Run) -> None:
        asyncio.get_running_loop().remove_reader(run.attempt)
        if run.asking:
            run.asking.cancel()

    # --- One step ------------------------------------------------------------------------------------------

    def advance(self, pod: Pod, *, now: datetime, stopping: bool) -> Pod:
        """The pod after its next step. `stopping`: the node goes down, nothing starts and all stops."""
        run = self.runs.get(pod.uid)
        if run is None and pod.running:  # adoption came at an instant between two states
            pod = self.recover(pod, now=now)
            run = self.runs.get(pod.uid)
        if run is not None:
            if attempts.is_locked(run.attempt.folder / f"{run.attempt.number}.json"):
                return self._keep(pod, run, now=now, stop=stopping or bool(pod.deleting_since))
            self._stop_following(run)
            run.attempt.close()
            del self.runs[pod.uid]
            if attempts.read_exit(run.attempt.folder, run.attempt.number) is None:
                attempts.kill_escaped(pod.uid, run.attempt.number)
            pod = self._ended(pod, now=now, unhealthy=run.health.unhealthy)
        if pod.is_finished or pod.deleting_since:
            return pod
        if stopping and (pod.attempt == 0 or self._is_interrupted(pod)):
            return self._terminated(pod) if pod.attempt else pod
        return self._finish_or_start(pod, now=now)

    def next_look(self, pod: Pod, *, now: datetime) -> datetime | None:
        """When time alone will change what `advance` does."""
        if pod.running and pod.attempt_started_at is None:
            return now + STARTING_LOOK
        return None if pod.is_finished or pod.deleting_since else self._not_before.get(pod.uid)

    def forget(self, pod: Pod) -> None:
        self._not_before.pop(pod.uid, None)

    def _keep(self, pod: Pod, run: Run, *, now: datetime, stop: bool) -> Pod:
        started_at = pod.attempt_started_at
        if not pod.running or started_at is None:
            started_at = run.attempt.started_at
        if stop or run.health.unhealthy:
            if run.asking:
                run.asking.cancel()
            run.attempt.stop()
        ready = run.health.ready and not run.attempt.is_stopping and started_at is not None
        return replace(
            pod.with_readiness(ready, at=now),
            phase=Phase.RUNNING if started_at else pod.phase,
            running=True,
            reason="",
            message=run.health.unhealthy,
            started_at=pod.started_at or started_at,
            attempt_started_at=started_at,
            startup_done=run.health.startup_done,
        )

    def _ended(self, pod: Pod, *, now: datetime, unhealthy: str = "") -> Pod:
        """The run is over: what its files say, or, where its shim was killed, that it ended just now."""
        folder = self.store.attempts(pod.uid)
        end = attempts.read_exit(folder, pod.attempt) or Exit(code=KILLED, at=now, stopped=False)
        started_at = attempts.started_at(folder, pod.attempt) or end.at
        forgiven = end.at - started_at >= FORGIVEN_AFTER
        word = "Completed" if end.code == 0 else "Error"
        # A run may have ended while no node was looking, and its pod been ready after that by its record.
        unready_at = max(end.at, pod.ready_changed_at or end.at)
        return replace(
            pod.with_readiness(False, at=unready_at),
            running=False,
            startup_done=False,
            started_at=pod.started_at or started_at,
            attempt_started_at=started_at,
            attempt_finished_at=end.at,
            finished_at=end.at if pod.deleting_since else pod.finished_at,
            crashes=1 if forgiven else pod.crashes + 1,
            exit_code=end.code,
            last_end_at=end.at,
            last_run_at=started_at,
            last_end_reason=word,
            reason=word,
            message=unhealthy or _explain(end.code),
        )

    def _lost(self, pod: Pod, number: int) -> Pod:
        """The machine went down under the pod. It ended at the latest moment that left a trace."""
        folder = self.store.attempts(pod.uid)
        started_at = attempts.started_at(folder, number)
        traces = [time for time in (pod.created_at, started_at, pod.ready_at, pod.ready_changed_at) if time]
        log = self.store.log(pod)
        if log.exists():
            traces.append(datetime.fromtimestamp(log.stat().st_mtime, tz=pod.created_at.tzinfo))
        return replace(
            pod.with_readiness(False, at=max(traces)),
            phase=Phase.FAILED,
            attempt=number,
            running=False,
            started_at=pod.started_at or started_at,
            attempt_started_at=started_at,
            attempt_finished_at=max(traces),
            finished_at=max(traces),
            last_end_at=max(traces),
            last_run_at=started_at,
            last_end_reason="NodeLost",
            exit_code=KILLED,
            disrupted=True,
            reason="NodeLost",
            message="The container and its supervisor were gone when the node came back.",
        )

    def _is_interrupted(self, pod: Pod) -> bool:
        """Whether the node's going down, and not the container itself, ended the pod."""
        if pod.restart_policy == "Always":
            return True
        end = attempts.read_exit(self.store.attempts(pod.uid), pod.attempt)
        return pod.exit_code != 0 and (pod.restart_policy == "OnFailure" or end is None or end.stopped)

    def _terminated(self, pod: Pod) -> Pod:
        """The node goes down: the pod will not run again, its owner makes another one later."""
        return replace(
            pod,
            phase=Phase.FAILED,
            finished_at=pod.attempt_finished_at,
            disrupted=True,
            reason="Terminated",
            message="Pod was terminated in response to imminent node shutdown.",
        )

    def _finish_or_start(self, pod: Pod, *, now: datetime) -> Pod:
        if pod.attempt:
            again = pod.restart_policy == "Always" or (
                pod.restart_policy == "OnFailure" and pod.exit_code != 0
            )
            if not again or (pod.restart_limit is not None and pod.restarts >= pod.restart_limit):
                phase = Phase.SUCCEEDED if pod.exit_code == 0 else Phase.FAILED
                return replace(pod, phase=phase, finished_at=pod.attempt_finished_at)
            wait = min(2 ** (pod.crashes - 1), LONGEST_BACKOFF_SECONDS)
            again_at = (pod.attempt_finished_at or now) + timedelta(seconds=wait)
            self._not_before.setdefault(pod.uid, again_at)
        not_before = self._not_before.get(pod.uid)
        if not_before and now < not_before:
            if pod.attempt and pod.reason in ("Error", "Completed"):
                last = f"{pod.message or 'it completed'}; back-off {wait} s before restarting"
                return replace(pod, phase=Phase.RUNNING, reason="CrashLoopBackOff", message=last)
            return replace(pod, reason="ImagePullBackOff") if pod.reason == "ErrImagePull" else pod
        if pod.scheduled_at is None:
            return pod
        self._not_before.pop(pod.uid, None)
        return self._start(pod, now=now)

    def _start(self, pod: Pod, *, now: datetime) -> Pod:
        number = pod.attempt + 1
        try:
            instruction = build_instruction(
                pod,
                number=number,
                places=self.places,
                volumes=self.store.volumes(pod.uid),
                claim=self.store.claim,
                log=self.store.log(pod),
                read_data=self.read_data,
            )
            attempt = Attempt.start(self.store.attempts(pod.uid), number, instruction)
        except UnknownImage as error:
            self._not_before[pod.uid] = now + timedelta(seconds=RETRY_SECONDS)
            reason = "ImagePullBackOff" if pod.reason == "ImagePullBackOff" else "ErrImagePull"
            return replace(pod, reason=reason, message=str(error))
        except (ConfigurationError, OSError) as error:
            self._not_before[pod.uid] = now + timedelta(seconds=RETRY_SECONDS)
            return replace(pod, reason="CreateContainerConfigError", message=str(error))
        self._follow(pod, attempt, Health())
        return replace(
            pod,
            attempt=number,
            running=True,
            attempt_started_at=None,
            attempt_finished_at=None,
            startup_done=False,
            reason="" if pod.phase == Phase.RUNNING else "ContainerCreating",
            message="",
        )


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.error("probes of a container failed", exc_info=error)


def _explain(code: int) -> str:
    if code == 0:
        return ""
    return f"the container was killed by signal {code - 128}" if code > 128 else f"exit code {code}"
