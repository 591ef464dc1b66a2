"""The customer of `tests.bench.applied`, who posts deployments and sees when they are on the cluster.

Imported once the environment names a database, because it imports models.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import django

django.setup()

import httpx  # noqa: E402
from django.core.management import call_command  # noqa: E402  (only now there are settings and models)
from kubernetes import client  # noqa: E402

from deployments.clusters.kubernetes.credentials import open_client  # noqa: E402
from deployments.clusters.kubernetes.settings import Settings  # noqa: E402
from deployments.reconcile.names import namespace_name, object_name, revision_name  # noqa: E402
from deployments.serving.models import Deployment  # noqa: E402
from marketplace.accounts.keys import issue_key  # noqa: E402
from marketplace.accounts.models import Organization, Scope  # noqa: E402
from marketplace.billing.models import Quota  # noqa: E402
from tests.market import GIB, make_market, say_nodes  # noqa: E402

LONGEST_SECONDS = 60.0
LOOK_SECONDS = 0.003


@dataclass(frozen=True, kw_only=True)
class Posting:
    """One deployment, in milliseconds from the beginning of the request."""

    answered_ms: float
    applied_ms: float


class Customer:
    """An organization with room for many deployments on the cluster of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        call_command("migrate", verbosity=0)
        market = make_market()
        self._row = market.cluster
        self._row.kind = "kubernetes"
        self._row.configuration = {
            "kubeconfig": str(kubeconfig),
            "storage": {"hostPath": {"path": "/srv/marketplace"}},
        }
        self._row.save()
        organization = Organization.objects.create(slug="bench", name="Bench")
        Quota.objects.create(organization=organization, accelerator_family="cpu", limit=100_000)
        _, secret = issue_key(organization=organization, name="bench", scopes=Scope.values)
        self._namespace = namespace_name(organization.public_id)
        self._wish = {"model": "tests/chatter", "flavor": market.flavor.slug}
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._client = open_client(Settings.of(self._row.configuration), connections=1)
        self._posted = 0

    def post(self, url: str) -> Posting:
        """Posts a deployment and waits for its objects, and then until nobody looks at it any more."""
        say_nodes(self._row, cores=100_000, memory=1_000_000 * GIB)  # no sweep says it here
        self._posted += 1
        with httpx.Client(base_url=url, headers=self._headers, timeout=LONGEST_SECONDS) as web:
            web.get("/api/v1/deployments/?page_size=1").raise_for_status()  # connected
            began = time.perf_counter()
            answer = web.post("/api/v1/deployments/", json={"name": f"bot-{self._posted}", **self._wish})
            answered = time.perf_counter() - began
        if answer.status_code != 201:
            raise SystemExit(f"not made: {answer.text[:1000]}")
        resource = answer.json()["id"]
        while not self._is_applied(resource):
            if time.perf_counter() - began > LONGEST_SECONDS:
                raise SystemExit(f"{resource} is not applied after {LONGEST_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)
        applied = time.perf_counter() - began
        while not Deployment.objects.filter(public_id=resource, lease_token="", observed_generation=1):
            time.sleep(LOOK_SECONDS)
        return Posting(answered_ms=answered * 1000, applied_ms=applied * 1000)

    def _is_applied(self, resource: str) -> bool:
        """The Service is applied last; the Deployment is looked for too, should that ever change."""
        core, apps = client.CoreV1Api(self._client), client.AppsV1Api(self._client)
        try:
            core.read_namespaced_service(object_name(resource), self._namespace)
            apps.read_namespaced_deployment(revision_name(resource, revision=1), self._namespace)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True
