"""What the cache of a site changes in a pod."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deployments.clusters.site import LOCAL, Site
from deployments.reconcile.manifests import serving_manifests, tuning_manifests
from deployments.serving.spec import Mount, ServingSpec
from runtimes.contract import CacheEnvironment, ServingEnvironment
from tests.deployments.reconcile.test_manifests import serving_spec, tuning_spec

BASE, ADAPTER = "a" * 64, "b" * 64
WITHOUT_CACHE = Site(image_registry="registry.example/mirror")
WITH_CACHE = replace(
    WITHOUT_CACHE, cache={"hostPath": {"path": "/var/cache/marketplace"}}, cache_free_share=0.05
)
WEIGHTS = {"model.safetensors": "1" * 64, "config.json": "2" * 64}
LORA = {"adapter_model.safetensors": "3" * 64}


def spec_of_an_adapter() -> ServingSpec:
    return replace(
        serving_spec(),
        environment={
            "RUNTIME_TASK": "text-generation",
            "RUNTIME_MODEL_NAME": "support",
            "RUNTIME_MODEL_DIR": "/model",
            "RUNTIME_DIGESTS": json.dumps(WEIGHTS),
            "RUNTIME_ADAPTER_DIR": "/adapter",
            "RUNTIME_ADAPTER_DIGESTS": json.dumps(LORA),
        },
        mounts=(
            Mount(sub_path=f"models/{BASE}", mount_path="/model"),
            Mount(sub_path=f"models/{ADAPTER}", mount_path="/adapter"),
        ),
    )


def pod_of(spec: ServingSpec, *, site: Site) -> dict[str, Any]:
    pod: dict[str, Any] = serving_manifests(spec, replicas=1, site=site)[0]["spec"]["template"]["spec"]
    return pod


def test_base_and_adapter_are_brought_by_an_init_container_and_mounted_from_the_cache():
    pod = pod_of(spec_of_an_adapter(), site=WITH_CACHE)
    (main,), (weights,) = pod["containers"], pod["initContainers"]
    read_only = {"readOnly": True}
    assert {**weights, "env": ...} == {
        "name": "weights",
        "image": "registry.example/mirror/marketplace/runtime-cuda:1",
        "command": ["python", "-m", "runtimes.cache"],
        "env": ...,
        # As much as the main container, so that the pod asks for no more, but no device.
        "resources": {
            "requests": {"cpu": "8000m", "memory": "34359738368"},
            "limits": {"cpu": "8000m", "memory": "34359738368"},
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "storage", "mountPath": f"/source/{BASE}", "subPath": f"models/{BASE}"} | read_only,
            {"name": "storage", "mountPath": f"/source/{ADAPTER}", "subPath": f"models/{ADAPTER}"}
            | read_only,
            {"name": "scratch", "mountPath": "/tmp"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    told = {item["name"]: item["value"] for item in weights["env"]}
    assert CacheEnvironment.from_environment(told) == CacheEnvironment(
        cache_dir="/cache",
        source_dir="/source",
        versions={BASE: WEIGHTS, ADAPTER: LORA},
        free_share=0.05,
    )
    assert main["volumeMounts"][:4] == [
        {"name": "cache", "mountPath": "/model", "subPath": BASE} | read_only,
        {"name": "storage", "mountPath": "/origin/model", "subPath": f"models/{BASE}"} | read_only,
        {"name": "cache", "mountPath": "/adapter", "subPath": ADAPTER} | read_only,
        {"name": "storage", "mountPath": "/origin/adapter", "subPath": f"models/{ADAPTER}"} | read_only,
    ]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "marketplace-cache"}} in pod["volumes"]
    serving = ServingEnvironment.from_environment(
        {item["name"]: item["value"] for item in main["env"] if "value" in item} | {"RUNTIME_PORT": "1"}
    )
    assert serving.cached == {"/model": "/origin/model", "/adapter": "/origin/adapter"}


@pytest.mark.parametrize("site", [WITHOUT_CACHE, LOCAL], ids=["a shared fast file system", "one machine"])
def test_without_a_cache_the_weights_are_mounted_from_the_storage(site: Site):
    pod = pod_of(spec_of_an_adapter(), site=site)
    assert "initContainers" not in pod
    assert pod["containers"][0]["volumeMounts"][:2] == [
        {"name": "storage", "mountPath": "/model", "subPath": f"models/{BASE}", "readOnly": True},
        {"name": "storage", "mountPath": "/adapter", "subPath": f"models/{ADAPTER}", "readOnly": True},
    ]
    assert "cache" not in json.dumps(pod)


def test_what_has_no_manifest_cannot_be_verified_and_stays_on_the_storage():
    spec = spec_of_an_adapter()
    pod = pod_of(replace(spec, environment={**spec.environment, "RUNTIME_DIGESTS": "{}"}), site=WITH_CACHE)
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"][:3]] == [
        "storage",
        "cache",
        "storage",
    ]
    (weights,) = pod["initContainers"]
    assert f"/source/{BASE}" not in [mount["mountPath"] for mount in weights["volumeMounts"]]


def test_a_training_run_reads_its_base_from_the_cache_and_its_data_from_the_storage():
    spec = replace(
        tuning_spec(),
        environment={"RUNTIME_MODEL_DIR": "/model", "RUNTIME_DIGESTS": json.dumps(WEIGHTS)},
        mounts=(
            Mount(sub_path=f"models/{BASE}", mount_path="/model"),
            Mount(sub_path="datasets/org_1/d.jsonl", mount_path="/data/train.jsonl"),
            Mount(sub_path="outputs/ftj_1", mount_path="/output", read_only=False),
        ),
    )
    (job,) = tuning_manifests(spec, site=WITH_CACHE)
    pod = job["spec"]["template"]["spec"]
    mounts = [(mount["name"], mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"][:4]]
    assert mounts == [
        ("cache", "/model"),
        ("storage", "/origin/model"),
        ("storage", "/data/train.jsonl"),
        ("storage", "/output"),
    ]
    (weights,) = pod["initContainers"]
    assert [mount["mountPath"] for mount in weights["volumeMounts"]] == [
        "/cache",
        f"/source/{BASE}",
        "/tmp",
    ]
    # Its ends count as the main container's do: no rule names a container.
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"] for rule in rules if "onExitCodes" in rule] == [
        {"operator": "In", "values": [65, 66, 76, 78]},
        {"operator": "In", "values": [75, 143]},
    ]
