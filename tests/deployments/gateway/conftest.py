from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.utils import timezone
from openai import OpenAI

from deployments.gateway.application import create_application
from deployments.gateway.limits import Limits
from deployments.serving.models import Deployment, DeploymentState, Replica
from marketplace.accounts.models import Organization
from tests.deployments.gateway.servers import Runtime, serving
from tests.market import Market
from tests.people import Person

LIMITS = Limits(body_bytes=100_000, directory_age=0.05, key_age=0.05, flush=0.1, stall=10, answer=60)


@pytest.fixture
def deploy(market: Market) -> Callable[..., Deployment]:
    """Makes the rows of a deployment with a ready replica at each of the addresses."""

    def make(organization: Organization, name: str, *addresses: str, **columns: Any) -> Deployment:
        deployment = Deployment.objects.create(
            **{
                "organization": organization,
                "name": name,
                "recipe": market.recipe,
                "flavor": market.flavor,
                "cluster": market.cluster,
                "price": market.price,
                "state": DeploymentState.RUNNING,
                "serving_revision": 1,
            }
            | columns
        )
        for address in addresses:
            add_replica(deployment, address)
        return deployment

    return make


def add_replica(deployment: Deployment, address: str, *, revision: int = 1, **columns: Any) -> Replica:
    """A ready replica of a deployment."""
    number = Replica.objects.count()
    return Replica.objects.create(
        **{
            "uid": f"uid-{number}",
            "name": f"pod-{number}",
            "organization": deployment.organization,
            "resource": deployment.public_id,
            "revision": revision,
            "cluster": deployment.cluster,
            "address": address,
            "phase": "Running",
            "ready": True,
            "created_at": timezone.now(),
        }
        | columns
    )


@pytest.fixture
def runtimes() -> Iterator[Callable[..., tuple[Runtime, str]]]:
    """Starts runtimes; each is given with its address."""
    with ExitStack() as stack:

        def start(name: str = "one") -> tuple[Runtime, str]:
            runtime = Runtime(name=name)
            return runtime, stack.enter_context(serving(runtime.application()))

        yield start


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[str]:
    """The address of a gateway over the test's database."""
    with serving(create_application(LIMITS)) as address:
        yield f"http://{address}"


@pytest.fixture
def secret(alice: Person) -> str:
    return alice.key()[1]


@pytest.fixture
def client(gateway: str, secret: str) -> Iterator[OpenAI]:
    """The official SDK as alice would use it, but for its own retries."""
    with OpenAI(base_url=f"{gateway}/v1", api_key=secret, max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.fixture
def http(gateway: str, secret: str) -> Iterator[httpx.Client]:
    """Plain HTTP with alice's key."""
    with httpx.Client(
        base_url=gateway, headers={"Authorization": f"Bearer {secret}"}, timeout=20, trust_env=False
    ) as plain:
        yield plain
