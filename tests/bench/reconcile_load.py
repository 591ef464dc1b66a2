"""The deployments that `tests.bench.reconcile` measures with, and the API server that has them.

Imported once the environment names a database, because it imports models.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402  (only now there are settings and models)
from django.db import connection, connections  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402

from deployments.clusters.kubernetes.cluster import KubernetesCluster  # noqa: E402
from deployments.clusters.kubernetes.connection import Connection  # noqa: E402
from deployments.clusters.port import Observation  # noqa: E402
from deployments.reconcile import tasks  # noqa: E402
from deployments.reconcile.kinds import RELATED  # noqa: E402
from deployments.reconcile.names import namespace_name  # noqa: E402
from deployments.reconcile.reconciler import reconcile  # noqa: E402
from deployments.reconcile.serving import Serving  # noqa: E402
from deployments.reconcile.sweep import split, sweep  # noqa: E402
from deployments.reconcile.tenants import make_ready  # noqa: E402
from deployments.serving import lifecycle  # noqa: E402
from deployments.serving.models import Deployment, DeploymentState, Revision  # noqa: E402
from deployments.serving.plans import ServingAsk, make_plan  # noqa: E402
from marketplace.accounts.actors import actor_of_key  # noqa: E402
from marketplace.accounts.keys import issue_key  # noqa: E402
from marketplace.accounts.models import Organization, Scope  # noqa: E402
from marketplace.billing.models import Quota  # noqa: E402
from tests.market import make_market  # noqa: E402

TABLES = (
    "serving_deployment",
    "serving_revision",
    "serving_replica",
    "serving_event",
    "serving_postmortem",
    "serving_deletion",
    "tuning_finetuningjob",
    "billing_usageinterval",
)
"""What the reconciler writes of workloads."""
REPEATS = 3
LONGEST_WAIT = 600.0


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep of a settled system takes; the fastest of several."""

    seconds: float
    cpu_seconds: float
    calls: int
    """Of the API server."""
    writes: int
    """Of these, those that change something."""
    queries: int
    versions: int
    """Rows of workloads with a new version."""

    def __str__(self) -> str:
        return (
            f"sweep in {self.seconds:.2f} s ({self.cpu_seconds:.2f} s of CPU): {self.calls} API calls, "
            f"{self.writes} of them writes; {self.queries} queries, {self.versions} rows of workloads written"
        )


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Many deployments at once, from the first bell until the last was applied."""

    count: int
    workers: int
    seconds: float
    cpu_seconds: float
    """Of this process, without the API server."""
    calls: int

    def __str__(self) -> str:
        return (
            f"{self.count} made at once are applied after {self.seconds:.2f} s ({self.cpu_seconds:.2f} s of "
            f"CPU here) by `reconcile` in {self.workers} threads of one process, with {self.calls} API calls"
        )


def migrate() -> None:
    """Makes the tables."""
    call_command("migrate", verbosity=0)


@contextmanager
def api_server(folder: Path) -> Iterator[Path]:
    """A stand-in with scripted kubelets, in a process of its own; the path of its kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "tests.bench.reconcile_server", str(kubeconfig)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while not kubeconfig.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the stand-in did not start")
            time.sleep(0.1)
        yield kubeconfig
    finally:
        process.terminate()
        process.wait(30)


class Calls:
    """Counts what goes to the API server, by method."""

    def __init__(self) -> None:
        self.methods: Counter[str] = Counter()
        call = Connection._call

        def counted(of: Connection, method: str, *rest: Any, **more: Any) -> Any:
            self.methods[method] += 1
            return call(of, method, *rest, **more)

        Connection._call = counted  # type: ignore[method-assign]

    def reset(self) -> None:
        self.methods.clear()

    @property
    def total(self) -> int:
        return sum(self.methods.values())

    @property
    def writes(self) -> int:
        return self.total - self.methods["GET"]


class Remembered:
    """The port, with what was observed of a resource a moment ago."""

    def __init__(self, cluster: KubernetesCluster, seen: Observation) -> None:
        self._cluster, self._seen = cluster, seen
        self.name = cluster.name

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        return self._seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)


class Load:
    """Customers whose deployments grow in number. The first of them is the one that makes many at once."""

    def __init__(self, folder: Path, kubeconfig: Path, *, customers: int) -> None:
        self.market = make_market()
        self.row = self.market.cluster
        self.row.kind = "kubernetes"
        self.row.configuration = {
            "kubeconfig": str(kubeconfig),
            "storage": {"hostPath": {"path": "/srv/marketplace"}},
        }
        self.row.save()
        self.cluster = KubernetesCluster(name=self.row.slug, configuration=self.row.configuration)
        self.customers = [
            Organization.objects.create(slug=f"bench-{number}", name=f"Bench {number}")
            for number in range(customers)
        ]
        for customer in self.customers:
            Quota.objects.create(organization=customer, accelerator_family="cpu", limit=1_000_000)
        key, _ = issue_key(organization=self.customers[0], name="bench", scopes=Scope.values)
        self.actor = actor_of_key(key)
        self.calls = Calls()
        self.bells: list[str] = []
        tasks.reconcile_one.delay = self.bells.append  # no worker listens here

    # --- Settling ------------------------------------------------------------------------------------------

    def settle(self, count: int) -> str:
        """Makes deployments until there are so many, and waits until all of them run; in words."""
        began = time.monotonic()
        first = self._make(1)
        for customer in self.customers:
            make_ready(
                [namespace_name(customer.public_id)],
                organization=customer,
                row=self.row,
                cluster=self.cluster,
            )
        reconcile(first.public_id, cluster=self.cluster)
        self._apply(self._copy(first, count - Deployment.objects.count()))
        deadline = time.monotonic() + LONGEST_WAIT
        sweeps = 0
        while True:
            rung: list[str] = []
            self._sweep(rung)
            sweeps += 1
            running = Deployment.objects.filter(state=DeploymentState.RUNNING).count()
            if not rung and running == count:
                return f"all run after {time.monotonic() - began:.0f} s and {sweeps} sweeps"
            if time.monotonic() > deadline:
                raise RuntimeError(f"{running} of {count} run, {len(rung)} are still rung for")
            # From one list, which is what makes it fast: nothing of this is measured.
            parts = split(self.cluster.observe())
            for resource in rung:
                reconcile(resource, cluster=Remembered(self.cluster, parts.get(resource, Observation())))

    def _apply(self, rows: list[Deployment]) -> None:
        """What the reconciler would apply for rows of which nothing is there yet."""
        kind = Serving()
        loaded = kind.load(
            Deployment.objects.filter(pk__in=[row.pk for row in rows]).select_related(*RELATED), replicas={}
        )
        for one in loaded:
            for step in kind.decide(one, Observation(), now=timezone.now()).steps:
                assert step.manifest is not None
                self.cluster.apply(step.manifest)

    def _make(self, count: int) -> Deployment:
        """Through the product's own functions."""
        ask = ServingAsk(
            version=self.market.version,
            flavor=self.market.flavor,
            region=None,
            replicas=1,
            context_length=2048,
            max_concurrency=4,
        )
        made: Deployment | None = None
        for _ in range(count):
            plan = make_plan(actor=self.actor, ask=ask)
            name = f"bot-{Deployment.objects.count()}"
            made = lifecycle.create_deployment(actor=self.actor, plan=plan, name=name)
        assert made is not None
        return made

    def _copy(self, first: Deployment, count: int) -> list[Deployment]:
        """As many deployments like the first, each with its revision, in few statements; of all customers."""
        skipped = ("id", "public_id", "name", "organization_id", "lease_until", "next_look_at")
        values = {
            field.attname: getattr(first, field.attname)
            for field in Deployment._meta.concrete_fields
            if field.attname not in skipped
        }
        known = Deployment.objects.count()
        rows = Deployment.objects.bulk_create(
            (
                Deployment(**values, name=f"bot-{known + number}", organization=owner)
                for number, owner in zip(range(count), cycle(self.customers))
            ),
            batch_size=1000,
        )
        revision = first.revisions.get()
        Revision.objects.bulk_create(
            (
                Revision(
                    deployment=row,
                    number=1,
                    version=revision.version,
                    flavor=revision.flavor,
                    price=revision.price,
                    recipe=revision.recipe,
                    spec=revision.spec
                    | {"resource": row.public_id, "organization": row.organization.public_id},
                )
                for row in rows
            ),
            batch_size=1000,
        )
        return rows

    # --- The control plane ---------------------------------------------------------------------------------

    def _sweep(self, rung: list[str]) -> None:
        sweep(ring=rung.append, open_cluster=lambda row: self.cluster)

    def _reconcile(self, resources: list[str], *, workers: int) -> None:
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for resource in resources:
            waiting.put(resource)

        def work(_: int) -> None:
            try:
                while not waiting.empty():
                    with suppress(queue.Empty):
                        reconcile(waiting.get_nowait(), cluster=self.cluster)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))

    # --- Measuring -----------------------------------------------------------------------------------------

    def measure_sweep(self) -> Sweep:
        """Sweeps a settled system several times."""
        before = _versions()
        found = []
        for _ in range(REPEATS):
            self.calls.reset()
            rung: list[str] = []
            cpu, began = time.process_time(), time.perf_counter()
            self._sweep(rung)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            assert not rung, f"a settled system is rung for: {rung[:3]}"
            found.append((seconds, cpu, self.calls.total, self.calls.writes))
        with CaptureQueriesContext(connection) as queries:
            self._sweep([])
        versions = _versions()
        changed = sum(versions[key] != version for key, version in before.items())
        seconds, cpu, _, _ = min(found)
        return Sweep(
            seconds=seconds,
            cpu_seconds=cpu,
            # Once a minute a sweep looks whether an operator was installed meanwhile.
            calls=min(calls for _, _, calls, _ in found),
            writes=sum(writes for *_, writes in found),
            queries=len(queries),
            versions=changed + len(versions) - len(before),
        )

    def measure_burst(self, count: int, *, workers: int) -> Burst:
        """Makes deployments, then answers all their bells."""
        self.bells.clear()
        self._make(count)
        self.calls.reset()
        cpu, began = time.process_time(), time.perf_counter()
        self._reconcile(list(self.bells), workers=workers)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        calls = self.calls.total
        there = {item.resource for item in self.cluster.observe().objects if item.ref.kind == "Deployment"}
        missing = set(self.bells) - there
        assert len(self.bells) == count and not missing, f"not applied: {sorted(missing)[:3]}"
        return Burst(count=count, workers=workers, seconds=seconds, cpu_seconds=cpu, calls=calls)


def _versions() -> dict[tuple[str, int], str]:
    """(table, row) -> PostgreSQL's own version of the row."""
    found = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT id, xmin::text FROM {table}")
            found.update({(table, row): version for row, version in cursor.fetchall()})
    return found
