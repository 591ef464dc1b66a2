"""One round: a customer, a random schedule of wishes and faults, fair weather, and what must be true then."""

from __future__ import annotations

import random
from datetime import timedelta

from deployments.clusters.port import RESOURCE_LABEL, REVISION_LABEL
from deployments.reconcile.names import namespace_name, revision_name
from deployments.serving.models import DeletionReceipt, Replica
from deployments.tuning.models import JobState
from marketplace.billing.models import UsageInterval
from tests.chaos.cluster.customer import Customer, Wish
from tests.chaos.cluster.installation import AGENT, WATCHER, Died, Installation, dice_of
from tests.chaos.cluster.machines import NODES
from tests.chaos.cluster.truth import Billed, wrong_bill
from tests.kubernetes.api.faults import (
    Answer,
    Close,
    Cut,
    Drop,
    Duplicate,
    Expire,
    Fault,
    Hang,
    Reorder,
    Silence,
)
from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Stored

RUINED: tuple[Fault, ...] = (
    Answer(409),
    Answer(410),
    Answer(429, retry_after=2),
    Answer(500),
    Answer(500, done=True),
    Answer(503),
    Cut(),
    Cut(done=True),
)
"""What requests meet. `done`: the write happens, and its answer is lost."""
WATCHED: tuple[Fault, ...] = (
    Silence(after=2),
    Duplicate(),
    Reorder(within=4),
    Close(after=3),
    Expire(after=3),
    Drop(rate=0.5),
)
SETTLING = 80
"""Sweeps after the last fault; a row rests up to five minutes."""
SETTLING_SECONDS = 20.0
OWN_KINDS = ("Deployment", "Job", "Service", "PodDisruptionBudget", "Pod")
SHARED_KINDS = ("NetworkPolicy", "ResourceQuota", "LimitRange", "PersistentVolumeClaim")


class Round:
    """Round `number` of the run with `seed`. The same two numbers make the same choices."""

    def __init__(self, installation: Installation, *, seed: int, number: int, name: str = "") -> None:
        self._it = installation
        self._number = number
        self._dice = dice_of(seed, number, "schedule")
        installation.machines.dice = dice_of(seed, number, "machines")
        random.seed(f"{seed}/{number}")  # the product spreads its pauses
        installation.clock.advance_to_whole_minute()
        installation.standin.do(lambda server: server.dice.seed(f"{seed}/{number}"))
        installation.looks.clear()
        installation.witnessed.clear()
        installation.wrongs.clear()
        installation.bells.clear()
        installation.history.changed.clear()
        installation.machines.broken.clear()
        self.customer = Customer(
            installation, name=name or f"customer-{seed}-{number}", dice=dice_of(seed, number, "customer")
        )
        self.story: list[str] = []
        self._skew = timedelta()
        self._inside = False

    def play(self) -> list[str]:
        """What is wrong at the end, in words; nothing, one hopes."""
        before = set(self._it.history.pods)
        self._it.shake = self._shake
        for _ in range(self._dice.randint(6, 14)):
            self._happen()
            self._it.tick(self._dice.choice((0.3, 2, 5, 20, 60)) * self._dice.uniform(0.5, 1.5))
            if self._dice.random() < 0.8:
                swept = self._it.look()
                self._tell(f"swept: {swept}")
            for resource in self._bells():
                self._tell(f"looked at {resource}: {self._it.answer(resource)}")
        self._it.shake = lambda call: None
        self._clear_up()
        wrong = self._settle(self._wrong_ends)
        for wish in self.customer.living:
            if wish.is_job:
                self.customer.cancel(wish)
            else:
                self.customer.delete(wish)
        wrong += self._settle(self._leaks)
        wrong += self._wrong_bills()
        wrong += self._it.wrongs
        for uid in self._it.history.pods.keys() - before:
            del self._it.history.pods[uid]
        self._it.standin.do(self._demolish)
        return wrong

    def _bells(self) -> list[str]:
        """Whom somebody rings for now: wishes, the sweep, and a watch that loses, doubles and reorders."""
        changed = sorted(self._it.history.changed)
        self._it.history.changed.clear()
        heard = [resource for resource in changed for _ in range(self._dice.choice((0, 0, 1, 1, 1, 2)))]
        rung = [resource for resource in sorted(self._it.bells) if self._dice.random() < 0.85]
        self._it.bells.clear()
        return self._dice.sample([*heard, *rung], k=len(heard) + len(rung))

    # --- The schedule --------------------------------------------------------------------------------------

    def _happen(self) -> None:
        acts = (
            *(self._wish,) * 5,
            *(self._strike,) * 3,
            *(self._vandalize,) * 2,
            *(self._blow,) * 3,
            self._calm,
            self._lose_node,
            self._vanish,
            self._turn_clocks,
            self._stray,
        )
        for _ in range(self._dice.randint(1, 3)):
            self._tell(self._dice.choice(acts)())

    def _tell(self, what: str) -> None:
        if what:
            self.story.append(f"{self._it.clock.now():%H:%M:%S} {what}")

    def _wish(self) -> str:
        return self.customer.wish()

    def _strike(self) -> str:
        return self._it.standin.do(lambda server: self._it.machines.strike())

    def _vandalize(self) -> str:
        if self._it.machines.is_cut_off:
            return ""
        mine = {wish.id for wish in self.customer.wishes}
        kinds = list(OWN_KINDS) + ["ReplicaSet"]
        if self._dice.random() < 0.2:
            return self._vandalize_shared()
        return self._it.standin.do(lambda server: self._it.machines.vandalize(kinds, resources=mine))

    def _vandalize_shared(self) -> str:
        namespace = namespace_name(self.customer.organization.public_id)
        kind = self._dice.choice(("Namespace", *SHARED_KINDS[:3]))

        def act(server: Server) -> str:
            found = server.kinds[kind]
            items = [
                item for item in server.store.all(found) if namespace in item.key and not item.is_deleting
            ]
            if not items:
                return ""
            item = self._dice.choice(items)
            server.delete(found, *item.key)
            return f"deleted {kind} {item.name}"

        return self._it.standin.do(act)

    def _blow(self) -> str:
        faults = self._it.standin.faults
        if self._dice.random() < 0.15:
            fault = Hang(seconds=0.5, done=self._dice.random() < 0.5)
            faults.add(fault, skip=self._dice.randint(0, 20), agents=[AGENT])
            return "a timeout"
        if self._dice.random() < 0.4:
            fault = self._dice.choice(WATCHED)
            faults.add(fault, times=self._dice.randint(1, 4), agents=[WATCHER])
            if isinstance(fault, Expire):
                self._it.standin.compact()
            return f"watches: {fault}"
        rate = self._dice.choice((0.03, 0.1, 0.3))
        chosen = self._dice.sample(RUINED, k=self._dice.randint(1, 4))
        faults.storm(seed=self._dice.randrange(10**6), rate=rate, faults=chosen, agents=[AGENT])
        return f"storm of {rate:.0%}: {', '.join(map(str, chosen))}"

    def _calm(self) -> str:
        self._it.standin.faults.clear()
        return "calm"

    def _lose_node(self) -> str:
        return self._it.standin.do(lambda server: self._it.machines.lose_node())

    def _vanish(self) -> str:
        machines = self._it.machines
        if machines.is_cut_off:
            self._return()
            return "the API server is back"
        machines.is_cut_off = True
        self._it.standin.go_away()
        return "the API server is gone"

    def _return(self) -> None:
        if self._it.machines.is_cut_off:
            self._it.machines.is_cut_off = False
            self._it.standin.come_back()

    def _turn_clocks(self) -> str:
        """Clocks of the API server and of the nodes go wrong by up to half a minute."""
        if self._dice.random() < 0.5:
            return ""
        skews = [timedelta(seconds=self._dice.uniform(-30, 30)) for _ in range(NODES + 1)]
        self._it.standin.skew(skews[0])
        self._it.machines.skews = {f"node-{number}": skews[number + 1] for number in range(NODES)}
        self._skew = timedelta(seconds=61)
        return "clocks are wrong"

    def _stray(self) -> str:
        """Objects that carry our labels and belong to no row."""
        if self._it.machines.is_cut_off:
            return ""
        resource = f"dep_{self._dice.getrandbits(64):020x}"
        labels = {
            "app.kubernetes.io/managed-by": "marketplace",
            "marketplace/installation": "marketplace",
            RESOURCE_LABEL: resource,
        }

        def act(server: Server) -> None:
            service = {"metadata": {"name": "stray", "labels": labels}, "spec": {"ports": [{"port": 80}]}}
            if server.store.get(server.kinds["Service"], "default", "stray") is None:
                server.create(server.kinds["Service"], "default", service)

        self._it.standin.do(act)
        return f"a stray object of {resource}"

    def _shake(self, call: str) -> None:
        """Things happen while one of our processes talks to the cluster, and processes die."""
        if self._inside:
            return
        chance = self._dice.random()
        if chance < 0.02:
            self._tell(f"died {call}")
            raise Died
        if chance > 0.08:
            return
        self._inside = True
        try:
            act = self._dice.choice((self._wish, self._strike, self._vandalize, self._race))
            self._tell(f"{act()} ({call})")
            self._it.tick()
        finally:
            self._inside = False

    def _race(self) -> str:
        """Another worker is rung for a workload that may be looked at right now."""
        if not self.customer.wishes:
            return ""
        wish = self._dice.choice(self.customer.wishes)
        self._it.answer(wish.id)
        return f"another worker looked at {wish.id}"

    # --- The end -------------------------------------------------------------------------------------------

    def _clear_up(self) -> None:
        self._it.standin.faults.clear()
        self._return()
        self._it.standin.skew(timedelta())
        self._it.machines.skews.clear()
        self._it.standin.do(lambda server: self._it.machines.recover_nodes())

    def _settle(self, wrongs: object) -> list[str]:
        found: list[str] = ["nothing was looked at"]
        for _ in range(SETTLING):
            self._it.tick(SETTLING_SECONDS)
            self._it.look()
            rung = sorted(self._it.bells)
            self._it.bells.clear()
            for resource in rung:
                self._it.answer(resource)
            # What cannot start is tried for ever, where there is nothing to go back to.
            broken = {resource for resource, _ in self._it.machines.broken}
            if not set(rung) - broken and self._it.machines.is_idle:
                assert callable(wrongs)
                found = wrongs()
                if not found:
                    return []
        return found or ["it does not come to rest"]

    def _wrong_ends(self) -> list[str]:
        objects = self._it.standin.do(lambda server: _objects(server))
        found = []
        for wish in self.customer.wishes:
            wish.row.refresh_from_db()
            mine = [item for item in objects if item.labels.get(RESOURCE_LABEL) == wish.id]
            found += self._wrong_job(wish, mine) if wish.is_job else self._wrong_deployment(wish, mine)
        namespace = namespace_name(self.customer.organization.public_id)
        if any(item.namespace == namespace for item in objects):
            there = self._it.standin.do(
                lambda server: {
                    kind for kind in SHARED_KINDS for item in server.store.all(server.kinds[kind], namespace)
                }
            )
            found += [f"{namespace} has no {kind}" for kind in SHARED_KINDS if kind not in there]
        return found + self._strays(objects)

    def _strays(self, objects: list[Stored]) -> list[str]:
        known = {wish.id for wish in self.customer.wishes}
        return [
            f"{item.kind.kind} {item.name} of {item.labels[RESOURCE_LABEL]} is left"
            for item in objects
            if item.labels[RESOURCE_LABEL] not in known
        ]

    def _wrong_deployment(self, wish: Wish, mine: list[Stored]) -> list[str]:
        row = wish.row
        if wish.state == "deleted":
            return _compare(wish, state=(row.state, "deleted"), objects=(_names(mine), []))
        if wish.state == "paused":
            return _compare(wish, state=(row.state, "paused"), objects=(_names(mine), []))
        revision = wish.revision
        if revision in wish.broken:
            if row.state not in ("update_failed", "failed", "initializing"):
                return [f"{wish.id} is {row.state} with a revision that cannot start"]
            if row.state != "update_failed":
                return []
            revision = row.serving_revision
            if revision is None or revision in wish.broken:
                return [f"{wish.id} is update_failed and serves revision {revision}"]
        state = "update_failed" if wish.revision in wish.broken else "running"
        name = revision_name(wish.id, revision=revision)
        pods = [item for item in mine if item.kind.kind == "Pod"]
        others = [item for item in mine if item.kind.kind != "Pod"]
        wanted = [f"Deployment {name}", f"Service {wish.id.replace('_', '-')}"]
        if wish.replicas > 1:
            wanted.append(f"PodDisruptionBudget {name}")
        found = _compare(
            wish,
            state=((row.state, row.ready_replicas, row.serving_revision), (state, wish.replicas, revision)),
            objects=(_names(others), sorted(wanted)),
            pods=(len(pods), wish.replicas),
        )
        for item in others:
            spec = item.value["spec"]
            if item.kind.kind == "Deployment":
                found += _compare(
                    wish,
                    replicas=(spec["replicas"], wish.replicas),
                    patience=(spec.get("minReadySeconds", 0), 0),
                )
            if item.kind.kind == "Service":
                found += _compare(wish, address=(spec["selector"][REVISION_LABEL], str(revision)))
        return found

    def _wrong_job(self, wish: Wish, mine: list[Stored]) -> list[str]:
        state = wish.row.state
        expected = {JobState.SUCCEEDED, JobState.FAILED}
        if wish.state == "cancelled":
            # The wish may have come when the run had just ended.
            expected = {JobState.CANCELLED}
        found = _compare(wish, objects=(_names(mine), []))
        if state not in expected:
            found.append(f"{wish.id} is {state}, should be one of {sorted(expected)}")
        codes = [story.exit_code for story in self._it.history.pods.values() if story.resource == wish.id]
        if state == JobState.SUCCEEDED and (0 not in codes or wish.row.result is None):
            found.append(f"{wish.id} succeeded, its runs ended with {codes}")
        if state == JobState.FAILED and not any(codes):
            found.append(f"{wish.id} failed ({wish.row.error}), its runs ended with {codes}")
        return found

    def _leaks(self) -> list[str]:
        objects = self._it.standin.do(lambda server: _objects(server))
        found = [f"{item.kind.kind} {item.name} is left" for item in objects]
        for wish in self.customer.wishes:
            wish.row.refresh_from_db()
            if not wish.is_job:
                receipts = DeletionReceipt.objects.filter(resource=wish.id).count()
                found += _compare(wish, state=(wish.row.state, "deleted"), receipts=(receipts, 1))
        living = Replica.objects.filter(
            resource__in=[wish.id for wish in self.customer.wishes],
            finished_at__isnull=True,
            vanished_at__isnull=True,
        )
        return found + [f"replica {replica.uid} has no end on record" for replica in living]

    def _wrong_bills(self) -> list[str]:
        wishes = {wish.id: wish for wish in self.customer.wishes}
        intervals: dict[str, list[UsageInterval]] = {}
        for interval in UsageInterval.objects.filter(resource__in=wishes).order_by("during"):
            intervals.setdefault(interval.replica_uid, []).append(interval)
        found, now = [], self._it.clock.now()
        for replica in Replica.objects.filter(resource__in=wishes):
            story = self._it.history.pods.get(replica.uid)
            if story is None:
                found.append(f"replica {replica.uid} is on record, and the cluster never had it")
                continue
            billed = Billed(
                uid=replica.uid,
                started_at=replica.started_at,
                ended_at=replica.finished_at or replica.vanished_at,
                has_reported_end=replica.finished_at is not None,
                stop_requested_at=replica.stop_requested_at,
                intervals=[
                    (it.during.lower, it.during.upper, it.cause == "customer")
                    for it in intervals.pop(replica.uid, [])
                ],
            )
            found += wrong_bill(
                story,
                billed,
                looks=[at for at, ready in self._it.looks if replica.uid in ready],
                witnessed={since for uid, since in self._it.witnessed if uid == replica.uid},
                stops=wishes[replica.resource].stop_spans(now),
                skew=self._skew,
                now=now,
            )
        return found + [f"{uid} is billed, and is no replica" for uid in intervals]

    def _demolish(self, server: Server) -> None:
        """The organization's namespace goes, so that the next round has a small cluster."""
        namespace = namespace_name(self.customer.organization.public_id)
        for kind in server.kinds:
            for item in server.store.all(kind):
                if (
                    namespace in (item.namespace, item.name)
                    or item.name.startswith(namespace)
                    or kind.kind == "Event"
                ):
                    server.store.remove(item)


def _objects(server: Server) -> list[Stored]:
    """All objects that carry the label of a resource, ReplicaSets aside, which Kubernetes makes itself."""
    return [
        item
        for kind in OWN_KINDS
        for item in server.store.all(server.kinds[kind])
        if item.labels.get(RESOURCE_LABEL)
    ]


def _names(items: list[Stored]) -> list[str]:
    return sorted(f"{item.kind.kind} {item.name}" for item in items)


def _compare(wish: Wish, **pairs: tuple[object, object]) -> list[str]:
    return [
        f"{wish.id}: {what} is {seen!r}, should be {wanted!r}"
        for what, (seen, wanted) in pairs.items()
        if seen != wanted
    ]
