"""The chart on a real API server: installed, upgraded and uninstalled by Helm's own engine.

No pod needs to run for this: what is looked at is that they are admitted, at the restricted security level.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Config
from kubernetes import client
from kubernetes.config import new_client_from_config

from deployments.clusters.kubernetes.access import CONTROLLER, READER
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.port import ObjectRef
from deployments.clusters.site import Site
from deployments.reconcile.tenancy import tenancy_manifests
from marketplace.hardware.attachments import Attachment
from tests.helm import chart
from tests.helm.test_chart import VALUES
from tests.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
KUBECONFIG = os.environ.get("MARKETPLACE_TEST_KUBECONFIG")
LABEL = f"app.kubernetes.io/instance={chart.RELEASE}"
EVERYWHERE = ("ClusterRole", "ClusterRoleBinding", "PersistentVolume")


@dataclass
class Place:
    """A namespace of a real cluster that the test has to itself."""

    api: client.ApiClient
    config: Config
    namespace: str

    def install(self, values: dict[str, Any]) -> None:
        self.config.install(str(chart.CHART), chart.RELEASE, values, namespace=self.namespace, timeout=60)

    def upgrade(self, values: dict[str, Any]) -> None:
        self.config.upgrade(str(chart.CHART), chart.RELEASE, values, namespace=self.namespace, timeout=60)

    def components_with_pods(self) -> set[str]:
        pods = client.CoreV1Api(self.api).list_namespaced_pod(self.namespace, label_selector=LABEL).items
        return {pod.metadata.labels["app.kubernetes.io/component"] for pod in pods}

    def left(self, manifests: list[chart.Manifest]) -> list[str]:
        """Which of these objects the API server still has."""
        found = []
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            if self._there(manifest["apiVersion"], manifest["kind"], name):
                found.append(f"{manifest['kind']} {name}")
        return found

    def has_kind(self, api_version: str, kind: str) -> bool:
        return self._plural(api_version, kind) is not None

    def may(self, account: str, verb: str, resource: str, group: str = "") -> bool:
        resource, _, sub = resource.partition("/")
        attributes = client.V1ResourceAttributes(
            verb=verb, resource=resource, group=group, subresource=sub, namespace=""
        )
        spec = client.V1SubjectAccessReviewSpec(
            user=f"system:serviceaccount:{self.namespace}:{account}", resource_attributes=attributes
        )
        review = client.V1SubjectAccessReview(spec=spec)
        return bool(client.AuthorizationV1Api(self.api).create_subject_access_review(review).status.allowed)

    def _plural(self, api_version: str, kind: str) -> str | None:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            listed = self._get(path)
        except client.ApiException as error:
            assert error.status == 404
            return None
        return next((item["name"] for item in listed["resources"] if item["kind"] == kind), None)

    def _there(self, api_version: str, kind: str, name: str) -> bool:
        plural = self._plural(api_version, kind)
        inside = "" if kind in EVERYWHERE else f"/namespaces/{self.namespace}"
        group = "/apis" if "/" in api_version else "/api"
        try:
            self._get(f"{group}/{api_version}{inside}/{plural}/{name}")
        except client.ApiException as error:
            assert error.status == 404
            return False
        return True

    def _get(self, path: str) -> dict[str, Any]:
        answer = self.api.call_api(
            *self.api.param_serialize("GET", path, auth_settings=["BearerToken"]), _request_timeout=30
        )
        content = answer.read()
        if answer.status >= 300:
            raise client.ApiException(status=answer.status, reason=content.decode())
        return dict(yaml.safe_load(content))


@pytest.fixture
def place() -> Iterator[Place]:
    if not KUBECONFIG:
        pytest.skip("no API server: set MARKETPLACE_TEST_KUBECONFIG")
    namespace = f"chart-{secrets.token_hex(4)}"
    with (
        new_client_from_config(KUBECONFIG) as api,
        Config(kubeconfig_path=KUBECONFIG, namespace=namespace) as config,
    ):
        core = client.CoreV1Api(api)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        core.create_namespace({"metadata": {"name": namespace, "labels": labels}})
        try:
            yield Place(api=api, config=config, namespace=namespace)
        finally:
            config.uninstall(chart.RELEASE, ignore_not_found=True, timeout=60)
            core.delete_namespace(namespace)


@pytest.mark.parametrize("name", VALUES)
def test_it_installs_upgrades_and_leaves_nothing(place: Place, name: str) -> None:
    values = VALUES[name] | {"storage": {**VALUES[name].get("storage", {}), "keep": False}}
    manifests = chart.render(values, namespace=place.namespace)
    for manifest in manifests:
        if not place.has_kind(manifest["apiVersion"], manifest["kind"]):
            pytest.skip(f"the cluster has no {manifest['apiVersion']} {manifest['kind']}")
    place.install(values)
    assert len(place.left(manifests)) == len(manifests)
    if not values.get("scheduling", {}).get("priorityClassName"):  # which a cluster may not have
        everybody = {"web", "worker", "beat", "watcher", "gateway", "migrate"}
        wait_until(
            lambda: place.components_with_pods() == everybody, seconds=60, what="a pod of each component"
        )
    changed = values | {"settings": {**values.get("settings", {}), "LOG_LEVEL": "ERROR"}}
    place.upgrade(changed)
    old_job = {item["metadata"]["name"] for item in manifests if item["kind"] == "Job"}
    after = chart.render(changed, namespace=place.namespace)
    wait_until(
        lambda: not place.left([item for item in manifests if item["metadata"]["name"] in old_job]),
        what="the end of the old Job",
    )
    place.config.uninstall(chart.RELEASE, timeout=60)
    wait_until(
        lambda: not place.left([*manifests, *after]), seconds=60, what=f"the end of {place.left(after)}"
    )


def test_the_claim_stays_when_it_is_kept(place: Place) -> None:
    place.install({})
    place.config.uninstall(chart.RELEASE, timeout=60)
    claims = [
        item
        for item in chart.render({}, namespace=place.namespace)
        if item["kind"] == "PersistentVolumeClaim"
    ]
    assert place.left(claims) == ["PersistentVolumeClaim shop-marketplace-storage"]


def test_the_controller_may_do_its_work_and_nothing_else(place: Place) -> None:
    place.install({})
    account = "shop-marketplace-controller"
    reader = "shop-marketplace-reader"
    refused = [
        f"{verb} {resource}"
        for name, rules in ((account, CONTROLLER), (reader, READER))
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
        if not place.may(name, verb, resource, rule.group)
    ]
    assert refused == []
    too_much = [
        (verb, resource, group)
        for verb, resource, group in (
            ("get", "secrets", ""),
            ("list", "secrets", ""),
            ("create", "pods", ""),
            ("create", "pods/exec", ""),
            ("create", "serviceaccounts/token", ""),
            ("delete", "nodes", ""),
            ("patch", "nodes", ""),
            ("impersonate", "users", ""),
            ("create", "clusterrolebindings", "rbac.authorization.k8s.io"),
            ("escalate", "clusterroles", "rbac.authorization.k8s.io"),
            ("deletecollection", "namespaces", ""),
        )
        if place.may(account, verb, resource, group)
    ]
    assert too_much == []
    assert not place.may(reader, "delete", "deployments", "apps")
    assert not place.may("shop-marketplace", "get", "pods")


def test_the_cluster_port_works_with_the_controllers_rights(place: Place, tmp_path: Path) -> None:
    place.install({})
    installation = f"chart-{secrets.token_hex(4)}"
    kubeconfig = kubeconfig_of(place, "shop-marketplace-controller", tmp_path)
    cluster = KubernetesCluster(
        name="chart", configuration={"kubeconfig": str(kubeconfig), "installation": installation}
    )
    site = Site.of("kubernetes", {"storage": {"hostPath": {"path": "/nowhere"}}})
    organization = f"org_{secrets.token_hex(8)}"
    wanted = tenancy_manifests(
        organization, attachment=Attachment.DEVICE_PLUGIN, limits={"cpu": 4}, site=site
    )
    try:
        for manifest in wanted:
            cluster.apply(manifest)
        assert {observed.ref for observed in cluster.observe().objects} >= set(map(ObjectRef.of, wanted))
        assert {node.name for node in cluster.nodes()} == {
            node.metadata.name for node in client.CoreV1Api(place.api).list_node().items
        }
    finally:
        for observed in cluster.observe().objects:
            cluster.delete(observed.ref)
        wait_until(lambda: not cluster.observe().objects, seconds=60, what="the end of what was applied")


def kubeconfig_of(place: Place, account: str, folder: Path) -> Path:
    """A kubeconfig with which a test is the service account."""
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    token = client.CoreV1Api(place.api).create_namespaced_service_account_token(
        account, place.namespace, request
    )
    config = yaml.safe_load(Path(str(KUBECONFIG)).read_text())
    config["users"] = [
        {"name": user["name"], "user": {"token": token.status.token}} for user in config["users"]
    ]
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return folder / "kubeconfig"
