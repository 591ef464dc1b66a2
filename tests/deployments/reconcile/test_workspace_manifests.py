"""The Kubernetes objects of a workspace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.clusters.site import STORAGE_CLAIM, Site
from deployments.clusters.validation import validate
from deployments.reconcile.manifests import USER_ID, workspace_manifests
from deployments.serving.spec import Resources, WorkspaceSpec
from marketplace.hardware.attachments import Attachment

SITE = Site(image_registry="registry.example", serving_priority_class="people")
GPU = Resources(
    cpu_millicores=4000,
    memory_bytes=16 * 2**30,
    accelerator_resource="nvidia.com/gpu",
    accelerator_count=1,
    node_selector={"pool": "gpu"},
)
SPEC = WorkspaceSpec(
    resource="wsp_01jz000000000000000000000a",
    organization="org_01jz000000000000000000000b",
    image="marketplace/workspace-pytorch:0.1.0",
    resources=GPU,
    volume_gib=20,
)
NAME = "wsp-01jz000000000000000000000a"
IPU_POD = replace(GPU, accelerator_resource="", accelerator_count=4, attachment=Attachment.IPUJOB)


def manifests(
    spec: WorkspaceSpec = SPEC, *, runs: bool = True, number: int = 1, digit: str = "a", site: Site = SITE
) -> dict[str, Any]:
    """Kind -> manifest."""
    found = workspace_manifests(spec, runs=runs, token_number=number, token_hash=digit * 64, site=site)
    return {str(manifest["kind"]): manifest for manifest in found}


def pod(found: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = found["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_a_paused_workspace_wants_its_volume_and_nothing_else():
    (claim,) = manifests(runs=False).values()

    assert claim["metadata"]["name"] == NAME
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "20Gi"}},
    }


def test_the_volume_is_the_same_object_whether_it_runs_or_not_and_whatever_the_token():
    claim = manifests(runs=False)["PersistentVolumeClaim"]

    assert manifests()["PersistentVolumeClaim"] == claim
    assert manifests(number=2, digit="b")["PersistentVolumeClaim"] == claim


def test_a_site_may_name_the_storage_class():
    site = replace(SITE, workspace_storage_class="fast")

    assert manifests(site=site)["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"


def test_it_is_one_pod_that_goes_before_its_successor_comes():
    spec = manifests()["Deployment"]["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"] == {"matchLabels": {"marketplace/resource": SPEC.resource}}


def test_the_pod_holds_its_volume_scratch_space_and_nothing_of_the_shared_storage():
    spec = pod(manifests())

    assert [volume["name"] for volume in spec["volumes"]] == [NAME, "scratch", "shared-memory"]
    assert spec["volumes"][0] == {"name": NAME, "persistentVolumeClaim": {"claimName": NAME}}
    assert STORAGE_CLAIM not in str(manifests())
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": NAME, "mountPath": "/workspace"},
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]


def test_the_pod_meets_the_restricted_level_and_has_no_service_account_token():
    spec = pod(manifests())

    assert spec["automountServiceAccountToken"] is False
    assert spec["priorityClassName"] == "people"
    assert spec["securityContext"]["runAsUser"] == USER_ID
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_server_is_told_where_it_is_and_the_hash_of_its_token():
    (container,) = pod(manifests())["containers"]
    variables = {item["name"]: item.get("value") for item in container["env"]}

    assert container["image"] == "registry.example/marketplace/workspace-pytorch:0.1.0"
    assert variables == {
        "HF_HUB_OFFLINE": "1",
        "HOME": "/workspace",
        "JUPYTER_RUNTIME_DIR": "/tmp/jupyter",
        "TMPDIR": "/tmp",
        "WORKSPACE_FOLDER": "/workspace",
        "WORKSPACE_HOST": None,
        "WORKSPACE_ID": SPEC.resource,
        "WORKSPACE_PATH": f"/workspaces/{SPEC.resource}/",
        "WORKSPACE_PORT": "8000",
        "WORKSPACE_TOKEN_SHA256": "a" * 64,
    }


def test_it_is_ready_when_its_server_answers_below_its_own_path():
    (container,) = pod(manifests())["containers"]

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": f"/workspaces/{SPEC.resource}/api", "port": "http"}


def test_another_token_is_another_pod_template():
    assert pod(manifests(number=2, digit="b")) != pod(manifests())


def test_on_an_ipu_pod_it_is_an_ipujob_of_one_instance_named_after_its_token():
    spec = replace(SPEC, resources=IPU_POD)

    first, second = manifests(spec)["IPUJob"], manifests(spec, number=2, digit="b")["IPUJob"]

    assert first["metadata"]["name"] == f"{NAME}-r1"
    assert second["metadata"]["name"] == f"{NAME}-r2"
    assert first["spec"]["jobInstances"] == 1
    assert first["metadata"]["namespace"] == manifests(spec)["PersistentVolumeClaim"]["metadata"]["namespace"]


@pytest.mark.parametrize("runs", [True, False])
def test_every_object_is_one_that_kubernetes_takes(runs: bool):
    for manifest in manifests(runs=runs).values():
        validate(manifest)


def test_the_specification_comes_back_from_its_json():
    assert WorkspaceSpec.from_json(SPEC.to_json()) == SPEC
