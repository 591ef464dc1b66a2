from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.clusters.port import ObservedPod
from deployments.reconcile.outages import NOT_READY, Outage, compacted
from deployments.reconcile.replicas import ReplicaFacts, observed_replica
from deployments.reconcile.termination import Payer, TerminationReason, who_pays_outage
from deployments.reconcile.usage import serving_stretches
from marketplace.billing.metering import gaps

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
END = 100


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seconds(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - NOON).total_seconds()


def pod(*, changes: list[int], now: int, **facts: object) -> ObservedPod:
    """A pod that was ready at the first of `changes`, not at the second, and so on, as it is at `now`."""
    past = [change for change in changes if change <= now]
    values = {
        "uid": "u",
        "name": "n",
        "namespace": "org",
        "resource": "dep_1",
        "revision": 1,
        "phase": "Running",
        "created_at": NOON,
        "started_at": NOON,
        "ready": len(past) % 2 == 1,
        "ready_at": at(past[0]) if past else None,
        "ready_changed_at": at(past[-1]) if past else None,
    }
    return ObservedPod(**{**values, **facts})  # type: ignore[arg-type]


def seen(*looks: tuple[ObservedPod, int], before: ReplicaFacts | None = None) -> ReplicaFacts:
    """What is known after the looks, each with its moment."""
    known_until = None
    for found, now in looks:
        before = observed_replica(found, before=before, observed_at=known_until)
        known_until = at(now)
    assert before is not None
    return before


def told(replica: ReplicaFacts) -> list[tuple[float | None, float | None, str]]:
    return [(seconds(it.start), seconds(it.end), it.reason) for it in replica.outages]


def follow(changes: list[int], *moments: int, **facts: object) -> ReplicaFacts:
    return seen(*((pod(changes=changes, now=now, **facts), now) for now in moments))


def test_a_run_that_nobody_saw_begin_and_end_is_not_paid() -> None:
    """Ready since 10; crashed at 20, unseen; ready again at 40 in the next run, which ended at 60."""
    first = pod(changes=[10], now=12)
    ends = {"exit_code": 1, "last_end_reason": "Error", "last_end_at": at(60)}
    later = pod(changes=[10, 20, 40, 60], now=70, restarts=1, last_run_at=at(30), **ends)
    assert told(seen((first, 12), (first, 18), (later, 70))) == [(18, None, "Crashed")]
    same = pod(changes=[10, 60], now=70, last_run_at=at(0), **ends)
    assert told(seen((first, 12), (first, 18), (same, 70))) == [(60, None, NOT_READY)]


CASES = [
    ("it loads", [10], (5,), []),
    ("it answers", [10], (12,), []),
    ("it stopped to answer", [10, 20], (12, 22), [(20, None, NOT_READY)]),
    ("it answers again", [10, 20, 30], (12, 22, 32), [(20, 30, NOT_READY)]),
    (
        "it was away twice",
        [10, 20, 30, 40, 50],
        (12, 22, 32, 42, 52),
        [(20, 30, NOT_READY), (40, 50, NOT_READY)],
    ),
    ("it was away between two looks", [10, 20, 30], (12, 18, 32), [(18, 30, NOT_READY)]),
    ("it answered for a moment between two looks", [10, 20, 24, 28], (12, 22, 30), [(20, None, NOT_READY)]),
    ("it was away before it was first seen", [10, 20, 30], (32,), [(10, 30, NOT_READY)]),
]


@pytest.mark.parametrize(("case", "changes", "moments", "expected"), CASES)
def test_an_outage_lasts_from_the_change_that_the_cluster_names_to_the_next(case, changes, moments, expected):
    found = follow(changes, *moments)
    assert told(found) == expected, case


def test_an_outage_that_nobody_saw_begin_began_when_the_container_ended_if_that_is_known():
    away = pod(changes=[10, 20, 30], now=32, restarts=1, exit_code=137, last_end_at=at(15))
    found = seen((pod(changes=[10], now=18), 18), (replace(away, last_end_reason="OOMKilled"), 32))
    assert told(found) == [(15, 30, "OutOfMemory")]


def test_the_cause_is_added_when_it_is_known():
    looks = [pod(changes=[10, 20], now=now) for now in (12, 22)]
    crashed = pod(changes=[10, 20], now=25, restarts=1, exit_code=1, reason="CrashLoopBackOff")
    lost = pod(changes=[10, 20], now=22, reason="NodeLost")
    assert told(seen((looks[0], 12), (looks[1], 22), (crashed, 25))) == [(20, None, "Crashed")]
    assert told(seen((looks[0], 12), (lost, 22))) == [(20, None, "NodeLost")]


def test_what_follows_a_request_to_stop_is_no_outage():
    leaving = pod(changes=[10, 20], now=22, deleting_since=at(20))
    assert told(seen((pod(changes=[10], now=12), 12), (leaving, 22))) == []


def test_a_pod_that_goes_away_while_it_is_ready_had_no_outage():
    """Kubernetes leaves the condition as it is: not ready, and unchanged since the first answer."""
    leaving = pod(changes=[10], now=22, ready=False, deleting_since=at(20))
    found = seen((pod(changes=[10], now=12), 12), (leaving, 22), (leaving, 23))
    assert told(found) == []
    assert told(seen((leaving, 22))) == []
    away_before = pod(changes=[10, 15], now=22, deleting_since=at(20))
    assert told(seen((pod(changes=[10], now=12), 12), (away_before, 22))) == [(15, None, NOT_READY)]


def test_an_outage_is_kept_over_its_way_through_the_database():
    for outage in (Outage(start=at(1), end=at(2), reason="NodeLost"), Outage(start=at(1.5))):
        assert Outage.from_json(outage.to_json()) == outage


def test_only_a_failure_of_their_own_making_is_billed_to_the_customer():
    assert [it.value for it in TerminationReason if who_pays_outage(it) is Payer.CUSTOMER] == ["BadInput"]
    theirs = pod(changes=[10, 20], now=22, restarts=1, exit_code=65)
    stretches = serving_stretches(seen((pod(changes=[10], now=12), 12), (theirs, 22)), until=at(30))
    assert [(it.phase, it.cause) for it in stretches] == [
        ("starting", "provider"),
        ("serving", "customer"),
        ("outage", "customer"),
    ]


def billed(replica: ReplicaFacts) -> set[int]:
    """The seconds that are the customer's, of a life that ends at END."""
    stretches = serving_stretches(replace(replica, finished_at=at(END)))
    if stretches:
        assert gaps(stretches, start=NOON, end=at(END)) == []
        assert sum((it.duration for it in stretches), timedelta()) == timedelta(seconds=END)
    return {
        second
        for it in stretches
        if it.cause == "customer"
        for second in range(int((it.start - NOON).total_seconds()), int((it.end - NOON).total_seconds()))
    }


changes = st.lists(st.integers(1, END - 1), min_size=1, max_size=9, unique=True).map(sorted)
moments = st.lists(st.integers(1, END - 1), max_size=12).map(sorted)


def answering(history: list[int]) -> set[int]:
    bounds = [*history, END]
    return {s for index in range(0, len(history), 2) for s in range(bounds[index], bounds[index + 1])}


@given(history=changes, extra=moments)
def test_whoever_sees_every_change_bills_exactly_what_was_answered(history, extra):
    assert billed(follow(history, *sorted([*history, *extra]))) == answering(history)


@given(history=changes, looks=moments)
def test_whoever_misses_changes_never_bills_an_outage_that_could_be_known(history, looks):
    looks = [*looks, END - 1]
    wrong = billed(follow(history, *looks)) - answering(history)
    for earlier, later in pairwise([0, *looks]):
        missed = [change for change in history if earlier < change <= later]
        if len(missed) < 3:  # of more the cluster shows the last one only
            assert not wrong & set(range(earlier, later)), (earlier, later)


def disturbed(history, looks, data):
    """The facts after fresh looks alone, and after the same looks among late and repeated answers."""
    fresh = [(pod(changes=history, now=now), now) for now in looks]
    facts, known_until = None, None
    for index, (found, now) in enumerate(fresh):
        for old, _ in data.draw(st.lists(st.sampled_from(fresh[: index + 1]), max_size=3)):
            if index:
                facts = observed_replica(old, before=facts, observed_at=known_until)
        for _ in range(2):
            facts = observed_replica(found, before=facts, observed_at=known_until)
        known_until = at(now)
    return seen(*fresh), facts


@given(history=changes, extra=moments, data=st.data())
def test_late_and_repeated_answers_change_nothing(history, extra, data):
    expected, facts = disturbed(history, [*sorted([*history, *extra]), END - 1], data)
    assert (facts.outages, facts.ready_at) == (expected.outages, expected.ready_at)


@given(history=changes, looks=moments, data=st.data())
def test_where_changes_were_missed_late_answers_bill_nothing_more(history, looks, data):
    """One may look like another outage then: never at the customer's cost."""
    expected, facts = disturbed(history, [*looks, END - 1], data)
    assert billed(facts) <= billed(expected)
    assert facts.ready_at == expected.ready_at


@given(
    looks=st.lists(
        st.tuples(st.booleans(), st.integers(0, END), st.integers(0, END), st.integers(0, 3)),
        max_size=12,
    ),
    first=st.integers(0, END),
)
def test_whatever_clocks_say_every_moment_is_told_once(looks, first):
    facts = None
    for ready, changed, now, restarts in [(True, first, first, 0), *looks]:
        found = pod(changes=[first], now=END, ready=ready, restarts=restarts, last_end_at=at(now - 1))
        found = replace(found, ready_changed_at=at(changed))
        before = facts
        facts = observed_replica(found, before=facts, observed_at=at(now - 2))
        assert observed_replica(found, before=facts, observed_at=at(now)) == facts
        assert before is None or facts.ready_changed_at >= before.ready_changed_at
        starts_and_ends = [moment for it in facts.outages for moment in (it.start, it.end) if moment]
        assert starts_and_ends == sorted(starts_and_ends)
        assert all(outage.end is not None for outage in facts.outages[:-1])
    billed(facts)


def test_of_many_outages_the_closest_become_one_and_the_provider_pays_what_lies_between():
    flapping = [Outage(start=at(10 * n), end=at(10 * n + n % 7 + 1)) for n in range(1, 50)]
    kept = compacted(flapping, most=5)
    assert (len(kept), kept[0].start, kept[-1].end) == (5, flapping[0].start, flapping[-1].end)
    down = sum((it.end - it.start for it in flapping), timedelta())
    assert sum((it.end - it.start for it in kept), timedelta()) >= down
