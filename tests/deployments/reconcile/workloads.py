"""Deployments and jobs for the tests of the reconciler, and the world they live in.

Wishes are written as `lifecycle` writes them: columns and generation in one UPDATE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings

from deployments.reconcile.reconciler import Outcome, reconcile
from deployments.reconcile.sweep import Swept, sweep_cluster
from deployments.serving.deletions import request_deletion
from deployments.serving.models import Deployment, Event, EventSource, Replica, Revision
from deployments.serving.spec import Mount, Resources, ServingSpec, TuningSpec
from deployments.tuning.models import Dataset, DatasetVersion, FineTuningJob
from deployments.workspaces.models import Workspace
from marketplace.accounts.models import Organization
from marketplace.billing.models import UsageInterval
from marketplace.hardware.models import Cluster
from marketplace.ids import make_public_id
from runtimes.contract import format_event
from tests.deployments.reconcile.memory_cluster import Clock, MemoryCluster
from tests.deployments.tuning.jobs import safetensors_file
from tests.market import Market

RESOURCES = Resources(cpu_millicores=2000, memory_bytes=4 * 2**30)


def serving_spec(*, resource: str, organization: str, revision: int = 1) -> ServingSpec:
    return ServingSpec(
        resource=resource,
        organization=organization,
        revision=revision,
        image="marketplace/runtime-cpu:test",
        environment={"RUNTIME_TASK": "text-generation", "RUNTIME_MODEL_DIR": "/model"},
        mounts=(Mount(sub_path="models/chatter", mount_path="/model"),),
        resources=RESOURCES,
    )


@dataclass
class World:
    """A market, a cluster in memory and a clock. Each `restart` of the control plane keeps all three."""

    market: Market
    organization: Organization
    row: Cluster
    clock: Clock = field(default_factory=Clock)
    makes_jobs: bool = False
    cluster: MemoryCluster = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = MemoryCluster(name=self.row.slug, clock=self.clock)

    def move_to_new_cluster(self) -> None:
        """Leaves all that was behind: sweeps look at an empty cluster from here on."""
        slug = f"{self.market.cluster.slug}-{Cluster.objects.count()}"
        self.row = Cluster.objects.create(slug=slug, region=self.market.region, kind="local")
        self.cluster = MemoryCluster(name=slug, clock=self.clock)

    # Wishes

    def create_deployment(self, *, name: str = "bot", replicas: int = 1) -> Deployment:
        deployment = Deployment.objects.create(
            organization=self.organization,
            name=name,
            recipe=self.market.recipe,
            flavor=self.market.flavor,
            cluster=self.row,
            price=self.market.price,
            desired_replicas=replicas,
            created_at=self.clock.now(),
        )
        self.add_revision(deployment, 1)
        return deployment

    def running(self, *, name: str = "bot", replicas: int = 1) -> Deployment:
        """A new deployment that serves."""
        deployment = self.create_deployment(name=name, replicas=replicas)
        self.reconcile(deployment)
        self.cluster.make_ready(deployment.public_id)
        self.reconcile(deployment)
        assert deployment.state == "running"
        return deployment

    def create_job(self, *, name: str = "tuned", retries: int = 3) -> FineTuningJob:
        """A job whose run has left its result in the storage, whatever it is said to do."""
        dataset, _ = Dataset.objects.get_or_create(organization=self.organization, name="chats")
        data, _ = DatasetVersion.objects.get_or_create(
            dataset=dataset,
            digest="c" * 64,
            defaults={"storage_path": "datasets/chats.jsonl", "bytes": 1, "report": {}},
        )
        public_id = make_public_id("ftj")
        spec = TuningSpec(
            resource=public_id,
            organization=self.organization.public_id,
            image="marketplace/tune-cpu:test",
            environment={"RUNTIME_JOB": public_id},
            mounts=(Mount(sub_path=f"outputs/{public_id}", mount_path="/output", read_only=False),),
            resources=RESOURCES,
            retries=retries,
        )
        folder = Path(settings.STORAGE_ROOT) / "outputs" / public_id
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "auto_mapping": null}')
        (folder / "adapter_model.safetensors").write_bytes(safetensors_file())
        (folder / "result.json").write_text("{}")
        return FineTuningJob.objects.create(
            public_id=public_id,
            organization=self.organization,
            name=name,
            recipe=self.market.recipe,
            flavor=self.market.flavor,
            cluster=self.row,
            price=self.market.price,
            base=self.market.version,
            training_data=data,
            spec=spec.to_json(),
            created_at=self.clock.now(),
        )

    def cancel(self, job: FineTuningJob) -> None:
        self.wish(job, desired_state="cancelled", stop_requested_at=self.clock.now())

    def report(self, job: FineTuningJob, kind: str, *, step: int, **values: Any) -> None:
        """The run prints an event."""
        event = {"type": kind, "step": step, "job": job.public_id, "at": self.clock.now().isoformat()}
        self.cluster.print(job.public_id, "a line that is no event", format_event(event | values))

    def add_revision(self, deployment: Deployment, number: int) -> None:
        spec = serving_spec(
            resource=deployment.public_id, organization=self.organization.public_id, revision=number
        )
        Revision.objects.create(
            deployment=deployment,
            number=number,
            version=self.market.version,
            flavor=self.market.flavor,
            price=self.market.price,
            spec=spec.to_json(),
        )

    def update(self, deployment: Deployment, *, revision: int) -> None:
        self.add_revision(deployment, revision)
        self.wish(deployment, target_revision=revision)

    def pause(self, deployment: Deployment) -> None:
        self.wish(deployment, desired_state="paused", stop_requested_at=self.clock.now())

    def resume(self, row: Deployment | Workspace) -> None:
        row.refresh_from_db()
        pauses = row.pauses_until(self.clock.now())
        self.wish(row, desired_state="running", stop_requested_at=None, pauses=pauses)

    def delete(self, deployment: Deployment) -> None:
        request_deletion(deployment, actor="alice@example.com", at=self.clock.now())
        self.wish(deployment, desired_state="deleted", stop_requested_at=self.clock.now())

    def end(self, deployment: Deployment) -> None:
        """Deletes it, and waits until nothing of it is left."""
        self.delete(deployment)
        self.reconcile(deployment)
        self.cluster.let_go()
        self.settle()

    def wish(self, row: Any, **columns: Any) -> None:
        type(row).objects.filter(pk=row.pk).update(**columns, generation=F("generation") + 1)

    # The control plane at work

    def reconcile(self, row: Any) -> Outcome:
        outcome = reconcile(row.public_id, cluster=self.cluster, now=self.clock.now)
        row.refresh_from_db()
        return outcome

    def look(self) -> Swept:
        """One sweep; what it rings for is only counted."""
        swept = Swept()
        sweep_cluster(
            self.row, cluster=self.cluster, ring=lambda resource: None, now=self.clock.now, swept=swept
        )
        return swept

    def settle(self, *, sweeps: int = 10) -> None:
        """Sweeps, and answers what they ring for, until nothing is left to do."""
        quiet: set[str] = set()
        for sweep in range(sweeps):
            rung = [resource for resource in self.look().rung if resource not in quiet]
            if not rung:
                return
            # A run that trains is looked at by every sweep, for the lines that it writes.
            quiet = {resource for resource in rung if resource.startswith("ftj_") and sweep > 0}
            for resource in rung:
                reconcile(resource, cluster=self.cluster, now=self.clock.now)
        raise AssertionError(f"still not settled after {sweeps} sweeps: {rung}")

    def restart(self) -> None:
        """Time passes after a death: leases end, and rests are over."""
        Deployment.objects.update(lease_until=Now(), next_look_at=Now())
        FineTuningJob.objects.update(lease_until=Now(), next_look_at=Now())

    # What there is to see

    def events(self, row: Any) -> list[str]:
        """Reasons of the events that the reconciler recorded, oldest first."""
        found = Event.objects.filter(resource=row.public_id, source=EventSource.SYSTEM).order_by("id")
        return list(found.values_list("reason", flat=True))

    def usage(self, row: Any, *, since: Any) -> list[tuple[str, str, float, float]]:
        """(phase, who pays, from, to) in seconds after `since`, oldest first."""
        found = UsageInterval.objects.filter(resource=row.public_id).order_by("during", "id")
        return [
            (
                interval.phase,
                interval.cause,
                (interval.during.lower - since).total_seconds(),
                (interval.during.upper - since).total_seconds(),
            )
            for interval in found
        ]

    def replicas(self, row: Any) -> list[Replica]:
        return list(Replica.objects.filter(resource=row.public_id).order_by("created_at", "id"))


@pytest.fixture
def world(market: Market, acme: Organization, tmp_path: Path, settings: Settings) -> World:
    settings.STORAGE_ROOT = tmp_path
    return World(market=market, organization=acme, row=market.cluster)
