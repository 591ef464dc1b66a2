"""The rows that `tests.bench.api` asks for: a provider with 60 flavors, a customer with 1,000 deployments.

Imported once the environment names a database, because it imports models.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import django

django.setup()

from django.core.management import call_command  # noqa: E402  (only now there are settings and models)
from django.db import connection  # noqa: E402
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # noqa: E402
from django.utils import timezone  # noqa: E402

from deployments.clusters.capacity import remember_nodes  # noqa: E402
from deployments.clusters.port import NodeCapacity  # noqa: E402
from deployments.serving import lifecycle  # noqa: E402
from deployments.serving.models import Deployment, DeploymentState, Plan, Replica, Revision  # noqa: E402
from deployments.serving.plans import ServingAsk, make_plan  # noqa: E402
from marketplace.accounts.actors import actor_of_key  # noqa: E402
from marketplace.accounts.keys import issue_key  # noqa: E402
from marketplace.accounts.models import Organization, Scope  # noqa: E402
from marketplace.billing.models import Price, Quota  # noqa: E402
from marketplace.catalog.models import Recipe  # noqa: E402
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region  # noqa: E402
from tests.market import BEGINNING, GIB, make_market  # noqa: E402

MODEL = "tests/chatter"
NODES_PER_FLAVOR = 5


def prepare(*, deployments: int, flavors: int) -> str:
    """Makes the rows in an empty database and returns the customer's API key."""
    call_command("migrate", verbosity=0)
    market = make_market()
    clusters = _clusters(market.cluster)
    _flavors(flavors - 2, clusters=clusters)
    for family, precision in (("cuda", "bfloat16"), ("cuda", "int8"), ("rocm", "bfloat16")):
        Recipe.objects.create(
            version=market.version,
            engine="transformers",
            accelerator_family=family,
            image=f"marketplace/runtime-{family}:test",
            precision=precision,
            measured_start_seconds=20.0,
        )
    customer = Organization.objects.create(slug="bench", name="Bench")
    Quota.objects.create(organization=customer, accelerator_family="cpu", limit=100_000)
    key, secret = issue_key(organization=customer, name="bench", scopes=Scope.values)
    ask = ServingAsk(
        version=market.version,
        flavor=market.flavor,
        region=None,
        replicas=1,
        context_length=2048,
        max_concurrency=4,
    )
    actor = actor_of_key(key)
    _deployments(
        lifecycle.create_deployment(actor=actor, plan=make_plan(actor=actor, ask=ask), name="bot-0"),
        copies=deployments - 1,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    say_nodes()
    return secret


def say_nodes() -> None:
    """What the sweep would remember of every cluster, a few nodes for each flavor."""
    for cluster in Cluster.objects.all():
        nodes = []
        for pool in cluster.node_pools.select_related("flavor__accelerator"):
            device = pool.flavor.accelerator.resource_name
            nodes += [
                NodeCapacity(
                    name=f"{cluster.slug}-{pool.flavor.slug}-{number}",
                    labels={**pool.node_selector, "zone": "a"},
                    allocatable={"cpu": 64_000, "memory": 512 * GIB, **({device: 8} if device else {})},
                    requested={device: number} if device else {},
                )
                for number in range(NODES_PER_FLAVOR)
            ]
        remember_nodes(cluster.slug, nodes)


def _clusters(local: Cluster) -> list[Cluster]:
    clusters = [local]
    for name in ("north", "south"):
        region = Region.objects.create(slug=name, name=name.title())
        clusters.append(Cluster.objects.create(slug=name, region=region, kind="local"))
    return clusters


def _flavors(count: int, *, clusters: list[Cluster]) -> None:
    chips = [
        Accelerator.objects.create(
            slug=f"chip-{number}",
            name=f"Chip {number}",
            vendor="Any",
            family=family,
            memory_bytes=(16, 24, 48, 80)[number % 4] * GIB,
            resource_name=f"example.com/{family}",
        )
        for number, family in enumerate(("cuda", "cuda", "cuda", "cuda", "rocm", "ipu"))
    ]
    flavors = [
        Flavor.objects.create(
            slug=f"flavor-{number}",
            name=f"Flavor {number}",
            accelerator=chips[number % len(chips)],
            accelerator_count=(1, 2, 4, 8)[number % 4],
            vcpus=Decimal(8),
            memory_bytes=64 * GIB,
            machine_class="bare_metal" if number % 4 == 3 else "virtual",
        )
        for number in range(count)
    ]
    for number, flavor in enumerate(flavors):
        cluster = clusters[number % len(clusters)]
        NodePool.objects.create(
            cluster=cluster,
            flavor=flavor,
            capacity=10,
            node_selector={"pool": flavor.slug},
            provisioning_p50_seconds=120,
        )
        Price.objects.create(
            flavor=flavor,
            region=cluster.region,
            per_second=Decimal("0.0001") * (number + 1),
            currency="EUR",
            valid=DateTimeTZRange(BEGINNING, None),
        )


def _deployments(first: Deployment, *, copies: int) -> None:
    """Copies of a deployment, each with its own plan and revision, and a start that was seen."""
    revision, plan = first.revisions.get(), first.plan
    assert plan is not None
    values = {
        field.attname: getattr(first, field.attname)
        for field in Deployment._meta.concrete_fields
        if field.attname not in ("id", "public_id", "name", "plan_id", "state", "lease_until", "next_look_at")
    }
    now = timezone.now()
    ready = {"type": "Ready", "status": "True", "reason": "AsWanted", "message": "", "since": now.isoformat()}
    values |= {"conditions": [ready], "ready_replicas": 1, "serving_revision": 1, "observed_generation": 1}
    plans = Plan.objects.bulk_create(
        Plan(
            organization=plan.organization,
            spec=plan.spec,
            spec_hash=plan.spec_hash,
            accepted=True,
            answer=plan.answer,
            recipe=plan.recipe,
            flavor=plan.flavor,
            cluster=plan.cluster,
            price=plan.price,
            expires_at=plan.expires_at,
        )
        for _ in range(copies)
    )
    rows = Deployment.objects.bulk_create(
        Deployment(**values, name=f"bot-{number + 1}", plan=plan, state=DeploymentState.RUNNING)
        for number, plan in enumerate(plans)
    )
    Revision.objects.bulk_create(
        Revision(
            deployment=row,
            number=1,
            version=revision.version,
            flavor=revision.flavor,
            price=revision.price,
            recipe=revision.recipe,
            spec={**revision.spec, "resource": row.public_id},
        )
        for row in rows
    )
    Replica.objects.bulk_create(
        Replica(
            uid=row.public_id,
            name=row.name,
            organization=row.organization,
            resource=row.public_id,
            revision=1,
            cluster=row.cluster,
            node="node",
            phase="Running",
            ready=True,
            created_at=now - timedelta(seconds=12),
            scheduled_at=now - timedelta(seconds=11),
            started_at=now - timedelta(seconds=9),
            ready_at=now,
        )
        for row in rows
    )
