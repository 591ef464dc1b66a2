"""A real cluster for the tests of this folder: the one that MARKETPLACE_TEST_KUBECONFIG names.

It needs an API server and the controllers of Kubernetes, no nodes. Objects carry an installation of the test
run's own, so that several runs, and an installation of the product, can share the cluster.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from deployments.clusters.kubernetes.access import CONTROLLER, policy_rules
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.kubernetes.credentials import open_client
from deployments.clusters.port import ObjectRef
from tests.deployments.clusters import manifests


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    path = os.environ.get("MARKETPLACE_TEST_KUBECONFIG", "")
    if not path:
        pytest.skip("no cluster: set MARKETPLACE_TEST_KUBECONFIG to the kubeconfig of one")
    return path


@pytest.fixture(scope="session")
def installation() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def real(kubeconfig: str, installation: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesCluster]:
    """The cluster, with a namespace of the test's own that the manifests of the tests go to."""
    cluster = KubernetesCluster(
        name="real", configuration={"kubeconfig": kubeconfig, "installation": installation}
    )
    namespace = f"{installation}-{uuid.uuid4().hex[:6]}"
    monkeypatch.setattr(manifests, "NAMESPACE", namespace)
    cluster.apply(manifests.namespace(namespace))
    yield cluster
    for item in cluster.observe().objects:
        if item.ref.namespace == namespace:
            cluster.delete(item.ref)
    cluster.delete(ObjectRef("v1", "Namespace", "", namespace))


@pytest.fixture
def limited(
    real: KubernetesCluster, kubeconfig: str, installation: str, tmp_path: Path
) -> Iterator[KubernetesCluster]:
    """The same cluster through an account that has the listed rights and no others."""
    name = f"{installation}-limited"
    role = {"metadata": {"name": name}, "rules": policy_rules(CONTROLLER)}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": manifests.NAMESPACE}
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [subject],
    }
    with open_client(real.settings, connections=2) as admin:
        rights, core = client.RbacAuthorizationV1Api(admin), client.CoreV1Api(admin)
        core.create_namespaced_service_account(manifests.NAMESPACE, {"metadata": {"name": name}})
        rights.create_cluster_role(role)
        rights.create_cluster_role_binding(binding)
        try:
            request = {"spec": {"expirationSeconds": 600}}
            answer = core.create_namespaced_service_account_token(name, manifests.NAMESPACE, request)
            config = yaml.safe_load(Path(kubeconfig).read_text())
            for user in config["users"]:
                user["user"] = {"token": answer.status.token}
            path = tmp_path / "kubeconfig"
            path.write_text(yaml.safe_dump(config))
            yield KubernetesCluster(
                name="limited", configuration={"kubeconfig": str(path), "installation": installation}
            )
        finally:
            rights.delete_cluster_role_binding(name)
            rights.delete_cluster_role(name)


@pytest.fixture
def new_id() -> Callable[[str], str]:
    return lambda prefix: f"{prefix}_{uuid.uuid4().hex[:8]}"
