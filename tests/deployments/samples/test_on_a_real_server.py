"""What a real API server, its admission and its controllers say of samples and of organizations' namespaces.

Runs where MARKETPLACE_TEST_KUBECONFIG names a cluster. It uses namespaces of its own and removes what it
made; the definition of IPUJobs is added for the time of the test where the cluster has none.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.kubernetes.connection import APPLY, Connection, NotFound
from deployments.clusters.kubernetes.credentials import open_client
from deployments.clusters.kubernetes.kinds import kind_of
from deployments.clusters.kubernetes.objects import labeled
from deployments.clusters.kubernetes.settings import Settings
from deployments.clusters.port import Manifest, ObjectRef
from deployments.reconcile import tenants
from deployments.reconcile.names import namespace_name
from deployments.samples.reading import build_samples
from marketplace.accounts.models import Organization
from marketplace.hardware import models as hardware
from marketplace.hardware.attachments import Attachment
from marketplace.ids import make_public_id
from tests.market import Market
from tests.waiting import eventually

KUBECONFIG = os.environ.get("MARKETPLACE_TEST_KUBECONFIG", "")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not KUBECONFIG, reason="MARKETPLACE_TEST_KUBECONFIG names no cluster"),
]

CRD = Path(__file__).parents[2] / "kubernetes" / "ipujob_crd.yaml"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ipujobs.graphcore.ai"
CONFIGURATION = {"storage": {"nfs": {"server": "storage.example", "path": "/exports"}}}


class Server:
    """A connection for what the port does not do: rehearsing, and doing what somebody else would."""

    def __init__(self) -> None:
        self.installation = f"test-{uuid.uuid4().hex[:8]}"
        configuration = {"kubeconfig": KUBECONFIG, "installation": self.installation}
        self.cluster = KubernetesCluster(name="real", configuration=configuration)
        self.connection = Connection(open_client(Settings.of(configuration), connections=4))

    def rehearse(self, manifest: Manifest) -> dict[str, Any]:
        """What would come of applying it: validation, defaults and admission, without storing."""
        ref = ObjectRef.of(manifest)
        return self.apply(kind_of(ref).path(ref.namespace, ref.name), manifest, dryRun="All")

    def apply(
        self, path: str, manifest: Manifest, *, manager: str = "somebody", **query: str
    ) -> dict[str, Any]:
        options = [
            ("fieldManager", manager),
            ("force", "true"),
            ("fieldValidation", "Strict"),
            *query.items(),
        ]
        body = labeled(manifest, installation=self.installation)
        return self.connection.patch(path, body, query=options, content_type=APPLY, action=f"apply {path}")

    def has(self, path: str) -> bool:
        try:
            self.connection.get(path, action=f"get {path}")
        except NotFound:
            return False
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    missing = not found.has(DEFINITION)
    if missing:
        found.apply(DEFINITION, yaml.safe_load(CRD.read_text()))
        eventually(lambda: found.has("/apis/graphcore.ai/v1alpha1"))
    yield found
    for item in found.cluster.observe().objects:
        if item.ref.kind in ("Namespace", "PersistentVolume"):
            found.cluster.delete(item.ref)
    if missing:
        found.connection.delete(DEFINITION, {}, action="delete the definition of IPUJobs")
    eventually(lambda: found.cluster.observe().is_empty, within=60)


def pod_of(manifest: Manifest) -> Manifest:
    """A pod as a controller would make it, for admission to look at."""
    spec = manifest["spec"]
    template = (spec["workers"] if manifest["kind"] == "IPUJob" else spec)["template"]
    namespace = manifest["metadata"]["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "rehearsed", "namespace": namespace},
        "spec": template["spec"],
    }


def test_it_takes_every_sample_and_admits_its_pods(server: Server) -> None:
    for sample in build_samples(organization=make_public_id("org")):
        for manifest in sample.shared:
            server.cluster.apply(manifest)
        for manifest in sample.own:
            applied = server.rehearse(manifest)
            assert applied["metadata"]["name"] == manifest["metadata"]["name"], sample.name
            if manifest["kind"] in ("Deployment", "Job", "IPUJob"):
                pod = pod_of(manifest)
                namespace = pod["metadata"]["namespace"]
                server.apply(f"/api/v1/namespaces/{namespace}/pods/rehearsed", pod, dryRun="All")


@pytest.fixture
def row(market: Market, server: Server) -> hardware.Cluster:
    market.cluster.kind = "kubernetes"
    market.cluster.configuration = CONFIGURATION
    market.cluster.save()
    return market.cluster


@pytest.mark.django_db(transaction=True)
def test_a_namespace_is_bound_mended_left_in_peace_and_removed(server: Server, row: hardware.Cluster) -> None:
    organization = Organization.objects.create(slug=f"o{uuid.uuid4().hex[:8]}", name="O")
    name = namespace_name(organization.public_id)
    tenants.make_ready([name], organization=organization, row=row, cluster=server.cluster)

    def phase(kind: str) -> str:
        found = [item for item in server.cluster.observe().objects if item.ref.kind == kind]
        mine = [
            item for item in found if name in (item.ref.namespace, item.ref.name.removesuffix("-storage"))
        ]
        return str(mine[0].status.get("phase", "")) if mine else "missing"

    def mend() -> list[str]:
        changes = tenants.mend_tenants(server.cluster.observe(), row=row, cluster=server.cluster)
        return [change for change in changes if name in change]

    eventually(lambda: phase("PersistentVolumeClaim") == "Bound", within=60)
    assert [mend() for _ in range(3)] == [[], [], []]

    # Somebody edits one, and deletes another.
    policies = f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies"
    opened: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
    }
    server.apply(f"{policies}/closed", opened)
    server.connection.delete(f"{policies}/callers", {}, action="delete a policy")
    assert len(mend()) == 2
    closed = server.connection.get(f"{policies}/closed", action="get a policy")
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert mend() == []

    # A claim that was deleted leaves a volume that nothing ever binds again.
    claim = ObjectRef("v1", "PersistentVolumeClaim", name, "marketplace-storage")
    server.cluster.delete(claim)
    eventually(lambda: phase("PersistentVolume") == "Released", within=60)
    eventually(lambda: not mend() and phase("PersistentVolumeClaim") == "Bound", within=60, every=1)

    organization.delete()
    eventually(lambda: not mend() and phase("PersistentVolume") == "missing", within=60, every=1)
    assert phase("Namespace") == "missing"


def test_pods_of_ipus_are_admitted_nowhere_else(server: Server) -> None:
    organization = make_public_id("org")
    (sample,) = (
        item for item in build_samples(organization=organization) if item.name == "embeddings-on-an-ipu-pod"
    )
    (restricted,) = (
        item for item in build_samples(organization=organization) if item.name == "embeddings-on-cpu"
    )
    for manifest in restricted.shared:
        server.cluster.apply(manifest)
    pod = pod_of(sample.own[0])
    name = namespace_name(organization, attachment=Attachment.DEVICE_PLUGIN)
    moved = {**pod, "metadata": {**pod["metadata"], "namespace": name}}
    with pytest.raises(Exception, match=r"violates PodSecurity .*host namespaces \(hostIPC=true\)"):
        server.apply(f"/api/v1/namespaces/{name}/pods/rehearsed", moved, dryRun="All")
