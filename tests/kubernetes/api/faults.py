"""Faults on purpose: what goes wrong, where, and how often. Deterministic, from a seed.

    standin.faults.add(Answer(429, retry_after=1), verbs={"patch"}, kinds={"Deployment"}, times=3)
    standin.faults.add(Hang(seconds=2, done=True))         # the write happens, its answer never comes
    standin.faults.add(Silence(after=5))                   # a watch stays open and says nothing more
    standin.faults.storm(seed=7, rate=0.2, faults=[Answer(409), Answer(500), Hang(0.2), Cut()])
    standin.faults.clear()

A rule meets the requests that match it: the first `skip` of them unharmed, then `times` of them (None: all).
Requests of the stand-ins' own kubelets, known by their user agent, meet no fault. That the whole server is
gone is `StandIn.go_away` and `come_back`; a clock that is wrong is `StandIn.skew`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from tests.kubernetes.api.refusals import REASONS, Refused

UNHARMED_AGENTS = ("standin-",)


@dataclass(frozen=True)
class Answer:
    """An error instead of the answer."""

    code: int
    message: str = "injected by the test"
    retry_after: int | None = None
    """Seconds, for 429 and 503."""
    done: bool = False
    """The request takes effect all the same: only its answer is wrong."""

    def refusal(self) -> Refused:
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        details = {"retryAfterSeconds": self.retry_after} if self.retry_after is not None else {}
        reason = REASONS.get(self.code, "InternalError")
        return Refused(self.code, self.message, reason=reason, details=details, headers=headers)


@dataclass(frozen=True)
class Hang:
    """No answer for so many seconds; then the connection closes."""

    seconds: float
    done: bool = False
    """The request takes effect before it hangs."""


@dataclass(frozen=True)
class Slow:
    """The right answer, so many seconds late."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """The connection closes at once."""

    done: bool = False


@dataclass(frozen=True)
class Silence:
    """A watch that says nothing more after so many events, and stays open."""

    after: int = 0


@dataclass(frozen=True)
class Close:
    """A watch that ends after so many events."""

    after: int = 0


@dataclass(frozen=True)
class Expire:
    """A watch that is told 410 Gone after so many events."""

    after: int = 0


@dataclass(frozen=True)
class Duplicate:
    """A watch that is told everything twice."""


@dataclass(frozen=True)
class Reorder:
    """A watch whose events come in another order, `within` at a time."""

    within: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Drop:
    """A watch that misses each event with this probability."""

    rate: float
    seed: int = 0


RequestFault = Answer | Hang | Slow | Cut
WatchFault = Silence | Close | Expire | Duplicate | Reorder | Drop
Fault = RequestFault | WatchFault
WATCH_FAULTS = (Silence, Close, Expire, Duplicate, Reorder, Drop)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is known of a request when a fault is looked for."""

    verb: str
    """get, list, watch, create, apply, patch, update, delete, log."""
    kind: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    agent: str = ""


@dataclass
class Rule:
    """One fault, where it strikes and how often."""

    fault: Fault
    verbs: frozenset[str]
    kinds: frozenset[str]
    names: frozenset[str]
    agents: frozenset[str]
    skip: int
    times: int | None
    rate: float
    dice: random.Random
    struck: int = 0
    """How often it has struck."""

    def strikes(self, call: Call) -> bool:
        if isinstance(self.fault, WATCH_FAULTS) != (call.verb == "watch") and not (
            call.verb == "watch" and isinstance(self.fault, Answer | Hang | Cut)
        ):
            return False
        if self.verbs and call.verb not in self.verbs:
            return False
        if (self.kinds and call.kind not in self.kinds) or (self.names and call.name not in self.names):
            return False
        if self.agents and call.agent not in self.agents:
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        if self.rate < 1 and self.dice.random() >= self.rate:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck += 1
        return True


@dataclass
class Faults:
    """The schedule. May be changed from any thread at any time."""

    rules: list[Rule] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """Every request while `keeps_calls` is set; for tests that count them."""
    keeps_calls: bool = False
    _guard: Lock = field(default_factory=Lock)

    def add(
        self,
        fault: Fault,
        *,
        verbs: Iterable[str] = (),
        kinds: Iterable[str] = (),
        names: Collection[str] = (),
        agents: Iterable[str] = (),
        skip: int = 0,
        times: int | None = 1,
        rate: float = 1.0,
        seed: int = 0,
    ) -> Rule:
        """Schedules one fault. Empty collections match everything."""
        rule = Rule(
            fault=fault,
            verbs=frozenset(verbs),
            kinds=frozenset(kinds),
            names=frozenset(names),
            agents=frozenset(agents),
            skip=skip,
            times=times,
            rate=rate,
            dice=random.Random(seed),
        )
        with self._guard:
            self.rules.append(rule)
        return rule

    def storm(self, *, seed: int, rate: float, faults: Sequence[Fault], **where: Iterable[str]) -> None:
        """Every request meets one of the faults with probability `rate`, until `clear`."""
        share = rate / len(faults)
        for number, fault in enumerate(faults):
            self.add(fault, times=None, rate=share, seed=seed * 1000 + number, **where)

    def clear(self) -> None:
        """Fair weather from now on. Streams that were struck stay as they are."""
        with self._guard:
            self.rules.clear()

    def strike(self, call: Call) -> list[Fault]:
        """The faults that this request meets: one for a request, any number for a watch."""
        with self._guard:
            if self.keeps_calls:
                self.calls.append(call)
            if call.agent.startswith(UNHARMED_AGENTS):
                return []
            found = []
            for rule in self.rules:
                if rule.strikes(call):
                    found.append(rule.fault)
                    if call.verb != "watch":
                        break
            return found
