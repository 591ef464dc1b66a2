"""Makes the rows that `tests.bench.gateway` calls: `python -m tests.bench.gateway_customer HOST:PORT`.

Prints the API key of a customer whose deployment `chat` has one ready replica at that address.
"""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402  (only now there are settings and models)
from django.utils import timezone  # noqa: E402

from deployments.serving.models import Deployment, DeploymentState, Replica  # noqa: E402
from marketplace.accounts.keys import issue_key  # noqa: E402
from marketplace.accounts.models import Organization, Scope  # noqa: E402
from tests.market import make_market  # noqa: E402


def main(address: str) -> None:
    call_command("migrate", verbosity=0)
    market = make_market()
    customer = Organization.objects.create(slug="bench", name="Bench")
    deployment = Deployment.objects.create(
        organization=customer,
        name="chat",
        recipe=market.recipe,
        flavor=market.flavor,
        cluster=market.cluster,
        price=market.price,
        state=DeploymentState.RUNNING,
        serving_revision=1,
    )
    Replica.objects.create(
        uid="bench",
        name="bench",
        organization=customer,
        resource=deployment.public_id,
        revision=1,
        cluster=market.cluster,
        address=address,
        phase="Running",
        ready=True,
        created_at=timezone.now(),
    )
    print(issue_key(organization=customer, name="bench", scopes=[Scope.INFER])[1])


if __name__ == "__main__":
    main(sys.argv[1])
