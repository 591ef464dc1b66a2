"""What a customer can do about a deployment that does not run: up to three ways out, each with its price.

An action is one change of the wish, named by an id that says what it does ("flavor:l4-1", "replicas:2"), so
that applying it is one call and applying it twice is the same as once. Only what would help now is offered:
the flavors with room, the replicas that fit, the way back from an update without room, never a change that
would be refused or would wait as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from deployments.planning.alternatives import total_per_second
from deployments.planning.checks import gib
from deployments.planning.offers import Ask, Candidate, Offer, judge, rank_offers

MOST = 3
SECONDS_PER_HOUR = 3600
ROOMIER = 1.25
"""Times the memory of the flavor that was too small: what ran out once, runs out again for a little more."""

NO_PLACE = frozenset({"NoCapacity", "NoSuchNode", "Unschedulable", "Evicted", "NodeLost"})
TOO_LITTLE_MEMORY = frozenset({"OutOfMemory", "MemoryDoesNotFit"})
QUOTA = frozenset({"QuotaExceeded"})
NOTHING_WRONG = frozenset(
    ("Creating", "Scheduling", "Preparing", "FetchingWeights", "LoadingModel", "Recreating", "Updating")
    + ("Stopping", "Paused", "ScaledToZero")
)
"""Reasons that pass by themselves: nothing has to be done about them."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """A new revision on its way, while an earlier one serves."""

    serving: int
    """The number of the one that serves."""
    per_second: Decimal
    """Of one replica of the one that serves."""
    makes_room: bool
    """Whether the one that serves could go first, and holds what the new one needs."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A deployment that does not run as wished, and what there is."""

    reason: str
    """Typed, as an explanation gives it."""
    retry_helps: bool
    ask: Ask
    """What is wished, with the flavor and region it has."""
    ready_replicas: int
    per_second: Decimal
    """Of one replica, as the deployment pays it."""
    candidates: Sequence[Candidate]
    """Everything of the model in the deployment's cluster, with its own flavor; quota and room without it."""
    update: Update | None = None
    """None: no revision is to take the place of one that serves."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One way out."""

    id: str
    title: str
    change: dict[str, Any]
    """What it changes of the wish: fields as PATCH takes them; empty where it changes nothing."""
    per_hour_before: Decimal
    """Of all replicas, in the deployment's currency."""
    per_hour_after: Decimal
    effect: str
    """What it brings, in numbers where there are any: "free now: 3"."""
    eta_seconds: float | None = None


def find_actions(situation: Situation) -> list[Action]:
    """The best ways out, at most MOST. None for what passes by itself."""
    if situation.reason in NOTHING_WRONG:
        return []
    found: dict[str, Action] = {}
    for action in _all(situation):
        found.setdefault(action.id, action)
    return list(found.values())[:MOST]


def read_action(action: str) -> tuple[str, str]:
    """The field and the value that an id names: ("flavor", "l4-1"); of "wait" the value is empty."""
    field, _, value = action.partition(":")
    return field, value


def _all(situation: Situation) -> Iterator[Action]:
    if situation.reason in NO_PLACE and situation.update is not None:
        # Fewer replicas would be fewer of those that serve: the first of the new ones needs room before.
        yield from _end_update(situation, situation.update)
        yield from _first(_flavors(situation), count=1)
        yield _wait(situation)
    elif situation.reason in NO_PLACE:
        yield from _first(_flavors(situation), count=2)
        yield from _fewer_replicas(situation)
        yield _wait(situation)
    elif situation.reason in TOO_LITTLE_MEMORY:
        yield from _first(_flavors(situation, roomier=True), count=1)
        yield from _less_at_once(situation)
    elif situation.reason in QUOTA:
        yield from _fewer_replicas(situation)
        yield from _first(_flavors(situation), count=1)
        yield from _more_quota(situation)
    elif situation.retry_helps:
        yield _wait(situation)
    yield _pause(situation)


def _end_update(situation: Situation, update: Update) -> Iterator[Action]:
    """Back to what serves; or on without the room for both."""
    price, own = _per_hour(situation), _own(situation)
    yield Action(
        id=f"revision:{update.serving}",
        title=f"Go back to revision {update.serving}",
        change={},
        per_hour_before=price,
        per_hour_after=update.per_second * situation.ask.replicas * SECONDS_PER_HOUR,
        effect="it serves now, and goes on",
    )
    free = own.free.pods if own is not None and own.free else 0
    if update.makes_room and situation.ready_replicas + free >= situation.ask.replicas:
        yield Action(
            id="strategy:recreate",
            title=f"Stop revision {update.serving} first",
            change={"strategy": "recreate"},
            per_hour_before=price,
            per_hour_after=price,
            effect="it makes room, and nothing answers until the new one is ready",
        )


def _first(actions: Iterable[Action], *, count: int) -> Iterator[Action]:
    for _, action in zip(range(count), actions, strict=False):
        yield action


def _flavors(situation: Situation, *, roomier: bool = False) -> Iterator[Action]:
    """Other flavors that have room now, the best first."""
    own = _own(situation)
    enough = own.device_bytes * ROOMIER if own is not None and roomier else 0
    ask = replace(situation.ask, flavor=None, require_capacity=True)
    for offer in rank_offers(ask, list(situation.candidates)):
        candidate = offer.candidate
        usable = offer.accepted and candidate.device_bytes >= enough
        if usable and candidate.flavor != situation.ask.flavor and not _is_other_precision(candidate, ask):
            yield _change(
                situation,
                offer,
                field="flavor",
                value=candidate.flavor,
                title=f"Move to {candidate.flavor}",
                effect=f"free now: {candidate.free.pods if candidate.free else 0}",
            )


def _is_other_precision(candidate: Candidate, ask: Ask) -> bool:
    wanted = ask.precision
    return candidate.is_quantized if wanted is None else candidate.shape.precision != wanted


def _fewer_replicas(situation: Situation) -> Iterator[Action]:
    """As many replicas as run already, or as there are room and quota for."""
    own = _own(situation)
    if own is None:
        return
    ready = situation.ready_replicas
    fitting = ready + (own.free.pods if own.free else 0)
    if own.quota_limit is not None:
        left = max(0, own.quota_limit - own.quota_held)
        fitting = min(max(fitting, ready), left // max(1, own.quota_per_replica))
    count = min(fitting, situation.ask.replicas - 1)
    if count > 0:
        effect = f"{ready} run already" if count == ready else f"{count} have room now"
        offer = judge(replace(situation.ask, replicas=count), own)
        yield _change(
            situation,
            offer,
            field="replicas",
            value=count,
            title=f"Go on with {count} of {situation.ask.replicas} replicas",
            effect=effect,
        )


def _less_at_once(situation: Situation) -> Iterator[Action]:
    """Half the context, or half the requests at once."""
    own, ask = _own(situation), situation.ask
    if own is None or not own.shape.facts.generates:
        return
    before = own.estimate(ask).expected
    halves = (
        ("context_length", "A context of {} tokens", replace(ask, context_length=ask.context_length // 2)),
        ("max_concurrency", "{} request(s) at once", replace(ask, max_concurrency=ask.max_concurrency // 2)),
    )
    for field, title, smaller in halves:
        half = getattr(smaller, field)
        if half < 1:
            continue
        offer = judge(smaller, own)
        yield _change(
            situation,
            offer,
            field=field,
            value=half,
            title=title.format(half),
            effect=f"needs {gib(before - offer.estimate.expected)} less of {gib(own.device_bytes)}",
        )


def _more_quota(situation: Situation) -> Iterator[Action]:
    own = _own(situation)
    if own is None or own.quota_limit is None:
        return
    wanted = own.quota_held + own.quota_per_replica * situation.ask.replicas
    if wanted > own.quota_limit:
        price = _per_hour(situation)
        yield Action(
            id=f"quota:{wanted}",
            title=f"Ask the provider for a quota of {wanted}",
            change={},
            per_hour_before=price,
            per_hour_after=price,
            effect=f"{own.quota_limit} are granted, {own.quota_held} of them held by others of yours",
        )


def _wait(situation: Situation) -> Action:
    own, price = _own(situation), _per_hour(situation)
    eta = judge(situation.ask, own).eta if own else None
    return Action(
        id="wait",
        title="Wait",
        change={},
        per_hour_before=price,
        per_hour_after=price,
        effect=(eta.source if eta else "") or "It starts by itself when capacity is free.",
        eta_seconds=eta.seconds if eta else None,
    )


def _pause(situation: Situation) -> Action:
    return Action(
        id="pause",
        title="Pause",
        change={"desired_state": "paused"},
        per_hour_before=_per_hour(situation),
        per_hour_after=Decimal(0),
        effect="nothing is billed until you resume",
    )


def _change(situation: Situation, offer: Offer, *, field: str, value: Any, title: str, effect: str) -> Action:
    # Replicas keep the deployment's price; anything else makes a revision, at today's.
    kept = situation.per_second * offer.ask.replicas if field == "replicas" else None
    per_second = kept if kept is not None else total_per_second(offer)
    return Action(
        id=f"{field}:{value}",
        title=title,
        change={field: value},
        per_hour_before=_per_hour(situation),
        per_hour_after=(per_second or Decimal(0)) * SECONDS_PER_HOUR,
        effect=effect,
        eta_seconds=offer.eta_seconds,
    )


def _own(situation: Situation) -> Candidate | None:
    """The deployment's own place."""
    own = [item for item in situation.candidates if item.flavor == situation.ask.flavor]
    exact = [item for item in own if not _is_other_precision(item, situation.ask)]
    return next(iter(exact or own), None)


def _per_hour(situation: Situation) -> Decimal:
    return situation.per_second * situation.ask.replicas * SECONDS_PER_HOUR
