"""The product as chaos drives it: a market, a stand-in control plane, the real Kubernetes port over HTTP, and
a control plane of ours that works when it is told to, and dies when it is told to.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache

from deployments.clusters.errors import ClusterError
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.kubernetes.connection import Connection
from deployments.clusters.port import LogLine, Manifest, NodeCapacity, ObjectRef, Observation, ObservedEvent
from deployments.reconcile import tasks
from deployments.reconcile.reconciler import Outcome, Unsettled, reconcile
from deployments.reconcile.sweep import Swept, sweep
from deployments.reconcile.watch import watch_cluster
from deployments.serving.models import Deployment
from deployments.tuning.models import FineTuningJob
from marketplace.hardware.models import Cluster as ClusterRow
from tests.chaos.cluster.clock import Clock, ruling
from tests.chaos.cluster.machines import Machines
from tests.chaos.cluster.truth import History
from tests.deployments.tuning.jobs import add_tuning_recipe, write_output
from tests.kubernetes.standin import StandIn
from tests.market import Market, make_market

AGENT, WATCHER = "marketplace", "marketplace-watcher"
"""User agents of the calls that the schedule decides, and of the watch, which comes when it comes."""
PATIENCE_SECONDS = 0.3
"""Real ones, in which an answer has to begin. The product's own patience would make rounds slow."""


class Died(BaseException):
    """The process is gone: what was written stays, what was in memory is lost."""


class Shaken:
    """The port as one process of ours has it: things happen before and after its calls."""

    def __init__(self, cluster: KubernetesCluster, *, shake: Callable[[str], None]) -> None:
        self.name = cluster.name
        self._cluster, self._shake = cluster, shake
        self.seen: Observation | None = None
        """The last observation of everything."""
        self.ready: dict[str, set[tuple[str, datetime | None]]] = {}
        """The pods that the last look at a resource saw ready: uid, and since when."""

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        self._shake("before observe")
        found = self._cluster.observe(resource, namespaces=namespaces)
        if resource is None:
            self.seen = found
        else:
            self.ready[resource] = {(pod.uid, pod.ready_changed_at) for pod in found.pods if pod.ready}
        self._shake("after observe")
        return found

    def apply(self, manifest: Manifest) -> None:
        self._shake("before apply")
        self._cluster.apply(manifest)
        self._shake("after apply")

    def delete(self, ref: ObjectRef) -> None:
        self._shake("before delete")
        self._cluster.delete(ref)
        self._shake("after delete")

    def logs(self, resource: str, **options: Any) -> list[LogLine]:
        return self._cluster.logs(resource, **options)

    def events(self, resource: str, **options: Any) -> list[ObservedEvent]:
        return self._cluster.events(resource, **options)

    def nodes(self) -> list[NodeCapacity]:
        return self._cluster.nodes()

    def watch(self, stop: threading.Event) -> Iterator[str]:
        return self._cluster.watch(stop)


@dataclass
class Installation:
    """Everything that rounds share."""

    market: Market
    row: ClusterRow
    standin: StandIn
    real: KubernetesCluster
    clock: Clock
    machines: Machines
    history: History
    bells: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    """What the watch has rung for. It is not answered: when it hears of a change is for the machine to
    decide, and no round could be repeated."""
    looks: list[tuple[datetime, frozenset[str]]] = field(default_factory=list)
    """When each complete sweep of this round looked, and the uids of the pods that it saw ready and could
    have written down."""
    witnessed: set[tuple[str, datetime | None]] = field(default_factory=set)
    """Pods that looks have seen ready and lived to write down: uid, and since when. What only a sweep saw is
    not written down: when it is over before any look succeeds, that is the provider's loss."""
    wrongs: list[str] = field(default_factory=list)
    """Errors of ours in this round."""
    shake: Callable[[str], None] = lambda call: None
    deaths: int = 0

    def __post_init__(self) -> None:
        self.cluster = Shaken(self.real, shake=lambda call: self.shake(call))

    # --- The world -----------------------------------------------------------------------------------------

    def tick(self, seconds: float = 0.0) -> None:
        """Time passes, and everything that is due happens."""
        if seconds:
            self.clock.advance(seconds)

        def act(server: Any) -> None:
            self.machines.tick()
            if self.standin.manager and not self.standin.manager.paused:
                self.standin.manager.catch_up()
                self.machines.tick()
                self.standin.manager.catch_up()

        self.standin.do(act)

    # --- The control plane ---------------------------------------------------------------------------------

    def look(self) -> Swept | None:
        """One sweep; whom it rings for is in `bells`."""
        self.cluster.seen = None
        before = ClusterRow.objects.values_list("observed_at", flat=True).get(pk=self.row.pk)
        try:
            found = sweep(ring=self.bells.add, now=self.clock.now, open_cluster=lambda row: self.cluster)
        except Died:
            self.restart()
            found = None
        began = ClusterRow.objects.values_list("observed_at", flat=True).get(pk=self.row.pk)
        if began is not None and began != before and self.cluster.seen is not None:
            # Nobody may write down what is seen of a row that a dead worker still holds.
            held = set(Deployment.objects.filter(lease_until__gt=began).values_list("public_id", flat=True))
            pods = self.cluster.seen.pods
            ready = frozenset(pod.uid for pod in pods if pod.ready and pod.resource not in held)
            self.looks.append((began, ready))
        return found

    def answer(self, resource: str) -> str:
        """One reconciliation, as the worker does it; its outcome."""
        try:
            outcome = reconcile(resource, cluster=self.cluster, now=self.clock.now)
        except Died:
            self.restart()
            return "died"
        except (Unsettled, ClusterError) as error:
            return f"{type(error).__name__}: {error}"  # told by the row itself, and tried again
        except LookupError:
            return "no such resource"  # the bell of a resource that is none of ours
        except Exception as error:
            self.wrongs.append(f"reconciling {resource} raised {type(error).__name__}: {error}")
            return self.wrongs[-1]

        if outcome is Outcome.DONE:
            self.witnessed |= self.cluster.ready.get(resource, set())
        return outcome

    def restart(self) -> None:
        """Another process takes over: it knows nothing but what is in the database."""
        self.deaths += 1
        self.cluster = Shaken(self.real, shake=lambda call: self.shake(call))


@contextmanager
def installed(folder: Path, *, seed: int) -> Iterator[Installation]:
    """An installation in the empty database at hand, on the virtual clock."""
    clock = Clock()
    cache.clear()
    logging.disable(logging.ERROR)
    with (
        StandIn(seed=seed, bookmark_seconds=1.0) as standin,
        pytest.MonkeyPatch.context() as patch,
        ruling(clock),
    ):
        standin.server.now = clock.now
        assert standin.manager is not None
        standin.manager.by_hand = True
        patch.setattr(settings, "STORAGE_ROOT", folder / "storage")
        patch.setitem(Connection._call.__kwdefaults__, "silence_seconds", PATIENCE_SECONDS)
        market = make_market()
        add_tuning_recipe(market)
        row = market.cluster
        row.kind = "kubernetes"
        row.configuration = {
            "kubeconfig": str(standin.kubeconfig(folder / "kubeconfig")),
            "storage": {"hostPath": {"path": "/srv/marketplace"}},
        }
        row.save()
        machines = standin.do(lambda server: Machines(server, now=clock.now))
        history = History(clock.now)
        standin.do(lambda server: server.store.listeners.append(history.note))
        installation = Installation(
            market=market,
            row=row,
            standin=standin,
            real=KubernetesCluster(name=row.slug, configuration=row.configuration),
            clock=clock,
            machines=machines,
            history=history,
        )
        machines.results = lambda resource: _leave_result(folder / "storage", resource)
        patch.setattr(tasks.reconcile_one, "delay", installation.bells.add)
        installation.real._watch_connection._client.user_agent = WATCHER
        stop = threading.Event()
        watcher = threading.Thread(
            target=watch_cluster,
            args=(lambda: installation.real,),
            kwargs={"ring": installation.heard.add, "stop": stop},
            daemon=True,
        )
        watcher.start()
        try:
            yield installation
        finally:
            stop.set()
            watcher.join()
            logging.disable(logging.NOTSET)


def _leave_result(storage: Path, resource: str) -> None:
    """What a run that ends well leaves behind. Called in the API server's thread: no database here."""
    job = FineTuningJob(public_id=resource)
    if not (storage / "outputs" / resource / "result.json").exists():
        write_output(storage, job)


def dice_of(seed: int, number: int, what: str) -> random.Random:
    """Dice of a round's own, so that it can be repeated alone."""
    return random.Random(f"{seed}/{number}/{what}")
