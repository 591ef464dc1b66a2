"""What the API server was told of every pod, and what the ledger must therefore say.

The history is written down from the server's own changes, and read without any code of the product. A ledger
is right when, for every replica,

- its intervals tile its life, from a start that a kubelet reported to the reported end: nothing lost, nothing
  counted twice;
- the customer pays no moment at which the cluster said that it was not ready, nor any after they asked to
  stop, nor of a run that ended by the provider's fault;
- the customer pays every moment from its readiness to the last sweep that saw it ready, if a look has
  written down that very readiness: a pod tells only of its last change, so that one which was ready, away
  and ready again while nobody looked cannot be known to have been ready before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from deployments.clusters.port import RESOURCE_LABEL
from tests.kubernetes.api.store import Change

CUSTOMER_CODES = (0, 65, 75)
"""Exit codes of runs that the customer pays: done, bad input, interrupted after a checkpoint."""

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Turn:
    """A change of a pod's readiness, as reported."""

    at: datetime
    ready: bool
    run_ended_at: datetime | None
    """When the newest run of its container that had ended by then did so."""


@dataclass
class PodStory:
    """What was reported of one pod."""

    uid: str
    resource: str
    is_job: bool
    starts: set[datetime] = field(default_factory=set)
    turns: list[Turn] = field(default_factory=list)
    """Every change of its readiness that was reported."""
    asked_at: datetime | None = None
    """When the cluster was asked to delete it."""
    ended_at: datetime | None = None
    exit_code: int | None = None
    disrupted: bool = False
    removed_at: datetime | None = None

    def ready_spans(
        self, *, until: datetime, grain: timedelta = timedelta(), skew: timedelta = timedelta()
    ) -> list[Span]:
        """When it was ready, from the reports alone; a span for each change that was reported. Of two reports
        of "ready" without one of the time between, the first holds until its container ended, or if that is
        not told until the second. Kubernetes tells moments in whole seconds: an end may have been up to
        `grain` later than it was told. Only its removal is not told, and known exactly. With clocks that are
        up to `skew` apart a span may be so much longer at both sides, and be told to end before it began.
        """
        told = [at + grain for at in (self.asked_at, self.ended_at) if at is not None]
        over = min([*told, until, self.removed_at or until])
        spans: list[Span] = []
        since: datetime | None = None
        for turn in self.turns:
            if since is not None:
                ended = turn.run_ended_at
                told_end = turn.at if ended is None or ended <= since else min(turn.at, ended)
                spans.append((since, told_end + grain))
            since = turn.at if turn.ready else None
        if since is not None:
            spans.append((since, over))
        widest = [(start - skew, min(end, over) + skew) for start, end in spans]
        return [(start, end) for start, end in widest if start < end]


class History:
    """Listens to every change of a pod."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.pods: dict[str, PodStory] = {}
        self.changed: set[str] = set()
        """Resources of which something has changed since somebody emptied this."""

    def note(self, change: Change) -> None:
        last = change.after or change.before
        assert last is not None
        if last.labels.get(RESOURCE_LABEL):
            self.changed.add(last.labels[RESOURCE_LABEL])
        if change.kind.kind != "Pod":
            return
        metadata, status = last.metadata, last.value.get("status") or {}
        story = self.pods.get(last.uid)
        if story is None:
            owners = metadata.get("ownerReferences") or [{}]
            story = self.pods[last.uid] = PodStory(
                uid=last.uid,
                resource=last.labels.get(RESOURCE_LABEL, ""),
                is_job=owners[0].get("kind") == "Job",
            )
        if change.after is None:
            story.removed_at = story.removed_at or self._now()
        if story.asked_at is None and "deletionTimestamp" in metadata:
            grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
            story.asked_at = datetime.fromisoformat(metadata["deletionTimestamp"]) - grace
        run_ended_at: datetime | None = None
        for container in (status.get("containerStatuses") or ())[:1]:
            for state in (container.get("lastState") or {}, container.get("state") or {}):
                for name in ("running", "terminated"):
                    if name in state:
                        story.starts.add(datetime.fromisoformat(state[name]["startedAt"]))
                if "terminated" in state:
                    story.exit_code = state["terminated"]["exitCode"]
                    run_ended_at = datetime.fromisoformat(state["terminated"]["finishedAt"])
                    if status.get("phase") in ("Succeeded", "Failed"):
                        story.ended_at = run_ended_at
        for condition in status.get("conditions") or ():
            if condition["type"] == "DisruptionTarget":
                story.disrupted = True
            if condition["type"] == "Ready":
                at = datetime.fromisoformat(condition["lastTransitionTime"])
                is_ready = condition["status"] == "True"
                if not story.turns or (story.turns[-1].at, story.turns[-1].ready) != (at, is_ready):
                    story.turns.append(Turn(at, is_ready, run_ended_at))


@dataclass(frozen=True, kw_only=True)
class Billed:
    """A replica as the product has it, with its intervals in order: (from, to, whether the customer pays)."""

    uid: str
    started_at: datetime | None
    ended_at: datetime | None
    has_reported_end: bool
    stop_requested_at: datetime | None
    intervals: Sequence[tuple[datetime, datetime, bool]]


def wrong_bill(
    story: PodStory,
    billed: Billed,
    *,
    looks: Iterable[datetime],
    witnessed: Collection[datetime],
    stops: Sequence[Span],
    skew: timedelta,
    now: datetime,
) -> list[str]:
    """What is wrong with one replica's bill, in words.

    `looks`: when complete sweeps saw it ready. `witnessed`: since when it was ready, as looks have seen and
    lived to write down. `stops`: from when to when the customer wanted it stopped.
    `skew`: how far the clocks of the cluster were apart.
    """
    who = f"replica {story.uid} of {story.resource}"
    found = _untiled(who, story, billed)
    paid = [(start, end) for start, end, by_customer in billed.intervals if by_customer]
    if story.is_job:
        return found + _wrong_run(who, story, billed, paid, stops)
    ready = story.ready_spans(until=now)
    longest = story.ready_spans(until=now, grain=timedelta(seconds=1), skew=skew)
    for span in paid:
        over = _minus([span], longest)
        found += [f"{who} was not ready and is billed from {_told(it)}" for it in over]
        found += [f"{who} is billed after the request to stop: {_told(it)}" for it in _within([span], stops)]
    if skew:
        return found
    known = [
        (start, max(seen))
        for start, end in ready
        if start in witnessed and (seen := [at for at in looks if start < at <= end])
    ]
    # A revision that was replaced is the provider's from then on, also when its pods come up later.
    replaced = [billed.stop_requested_at] if billed.stop_requested_at is not None else []
    due = [
        (start, min([end, *replaced, *(asked for asked, until in stops if until > start)]))
        for start, end in known
    ]
    if billed.ended_at is not None and all(not any(a <= start < b for a, b in stops) for start, _ in due):
        found += [f"{who} was ready and is not billed from {_told(it)} " for it in _minus(due, paid)]
    return found


def _untiled(who: str, story: PodStory, billed: Billed) -> list[str]:
    if billed.started_at is None:
        return [f"{who} never started and has usage"] if billed.intervals else []
    found = []
    if billed.started_at not in story.starts:
        found.append(f"{who} is recorded to have started at {billed.started_at}, reported: {story.starts}")
    if billed.has_reported_end and billed.ended_at != story.ended_at:
        found.append(f"{who} is recorded to have ended at {billed.ended_at}, reported: {story.ended_at}")
    until = billed.started_at
    for start, end, _ in billed.intervals:
        if start != until:
            found.append(
                f"{who}: from {_told((min(start, until), max(start, until)))} is "
                + ("doubled" if start < until else "lost")
            )
        until = end
    if billed.ended_at is not None and until != max(billed.started_at, billed.ended_at):
        found.append(f"{who} is recorded until {until} and ended at {billed.ended_at}")
    return found


def _wrong_run(
    who: str, story: PodStory, billed: Billed, paid: Sequence[Span], stops: Sequence[Span]
) -> list[str]:
    found = [f"{who} is billed after the request to stop: {_told(it)}" for it in _within(paid, stops)]
    asked = bool(stops) or story.asked_at is not None
    if paid and not asked and billed.has_reported_end and story.exit_code not in CUSTOMER_CODES:
        found.append(f"{who} ended with {story.exit_code} by our fault and is billed: {_told(paid[0])}")
    ran = billed.started_at and billed.ended_at and billed.started_at < billed.ended_at
    if ran and not paid and not asked and billed.has_reported_end and story.exit_code == 0:
        found.append(f"{who} did its work and is not billed")
    return found


def _minus(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """The parts of the spans that no other covers."""
    left = [span for span in spans if span[0] < span[1]]
    for start, end in others:
        left = [part for a, b in left for part in ((a, min(b, start)), (max(a, end), b)) if part[0] < part[1]]
    return left


def _within(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """The parts of the spans that another covers."""
    others = list(others)
    pairs = ((max(a, c), min(b, d)) for a, b in spans for c, d in others)
    return [pair for pair in pairs if pair[0] < pair[1]]


def _told(span: Span) -> str:
    seconds = (span[1] - span[0]).total_seconds()
    return f"{span[0]:%H:%M:%S.%f} to {span[1]:%H:%M:%S.%f} ({seconds:.3f} s)"
