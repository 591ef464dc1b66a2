from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from deployments.clusters.port import SPEC_HASH_ANNOTATION
from deployments.clusters.site import LOCAL, Site
from deployments.clusters.validation import validate
from deployments.reconcile.manifests import serving_manifests, tuning_manifests
from deployments.serving.spec import Mount, Resources, ServingSpec, TuningSpec

RESOURCE = "dep_01jz4m8k3v9x2c5n7q0r1s6t8w"
JOB = "ftj_01jz4m8k3v9x2c5n7q0r1s6t8w"
ORGANIZATION = "org_01jz4m8k3v9x2c5n7q0r1s6t8w"
NAMESPACE = "org-01jz4m8k3v9x2c5n7q0r1s6t8w"
GPU = Resources(
    cpu_millicores=8000,
    memory_bytes=2**35,
    accelerator_resource="nvidia.com/gpu",
    accelerator_count=2,
    node_selector={"pool": "h100"},
    tolerations=({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},),
)
AMOUNTS = {"cpu": "8000m", "memory": "34359738368", "nvidia.com/gpu": "2"}
OURS = {"app.kubernetes.io/managed-by": "marketplace"}
SITE = Site(image_registry="registry.example/mirror", runtime_class="nvidia", serving_priority_class="models")
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "nodeSelector": {"pool": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "runtimeClassName": "nvidia",
    "volumes": [
        {"name": "storage", "persistentVolumeClaim": {"claimName": "marketplace-storage"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "8589934592"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8589934592"}},
    ],
}
IMPATIENT = [
    {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 20,
    }
    for condition in ("not-ready", "unreachable")
]
SERVING_POD = POD | {"tolerations": [*POD["tolerations"], *IMPATIENT]}
CONTAINER = {
    "name": "runtime",
    "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "terminationMessagePolicy": "FallbackToLogsOnError",
}
ENVIRONMENT = [
    {"name": "HF_HUB_OFFLINE", "value": "1"},
    {"name": "HOME", "value": "/tmp"},
]
SCRATCH = [{"name": "scratch", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}]


def serving_spec(*, revision: int = 3) -> ServingSpec:
    return ServingSpec(
        resource=RESOURCE,
        organization=ORGANIZATION,
        revision=revision,
        image="marketplace/runtime-cuda:1",
        environment={
            "RUNTIME_TASK": "text-generation",
            "RUNTIME_RESOURCE": "dep_another",
            "RUNTIME_HOST": "127.0.0.1",
            "RUNTIME_PORT": "1",
        },
        mounts=(Mount(sub_path="models/a", mount_path="/model"),),
        resources=GPU,
    )


def tuning_spec() -> TuningSpec:
    return TuningSpec(
        resource=JOB,
        organization=ORGANIZATION,
        image="marketplace/tune-cuda:1",
        environment={"RUNTIME_JOB": JOB},
        mounts=(Mount(sub_path="outputs/a", mount_path="/output", read_only=False),),
        resources=GPU,
    )


def without_hash(manifest: Any) -> dict[str, Any]:
    annotations = manifest["metadata"]["annotations"]
    assert list(annotations) == [SPEC_HASH_ANNOTATION]
    assert len(annotations[SPEC_HASH_ANNOTATION]) == 32
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    return {**manifest, "metadata": metadata}


def test_a_revision_is_a_deployment_a_budget_and_a_service():
    labels = {"marketplace/resource": RESOURCE, "marketplace/revision": "3"}
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    container = {
        **CONTAINER,
        "image": "registry.example/mirror/marketplace/runtime-cuda:1",
        "env": [
            *ENVIRONMENT,
            {"name": "RUNTIME_TASK", "value": "text-generation"},
            {"name": "TMPDIR", "value": "/tmp"},
            {"name": "RUNTIME_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "RUNTIME_PORT", "value": "8000"},
            {"name": "RUNTIME_RESOURCE", "value": RESOURCE},
        ],
        "volumeMounts": [
            {"name": "storage", "mountPath": "/model", "subPath": "models/a", "readOnly": True},
            *SCRATCH,
        ],
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "startupProbe": probe | {"failureThreshold": 900},
        "readinessProbe": probe | {"failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    revision = {
        "name": "dep-01jz4m8k3v9x2c5n7q0r1s6t8w-r3",
        "namespace": NAMESPACE,
        "labels": OURS | labels,
    }
    assert [without_hash(it) for it in serving_manifests(serving_spec(), replicas=2, site=SITE)] == [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": revision,
            "spec": {
                "replicas": 2,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": OURS | labels},
                    "spec": SERVING_POD
                    | {
                        "restartPolicy": "Always",
                        "terminationGracePeriodSeconds": 35,
                        "priorityClassName": "models",
                        "topologySpreadConstraints": [spread],
                        "containers": [container],
                    },
                },
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": revision,
            "spec": {
                "minAvailable": 1,
                "selector": {"matchLabels": labels},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "dep-01jz4m8k3v9x2c5n7q0r1s6t8w",
                "namespace": NAMESPACE,
                "labels": OURS | labels,
            },
            "spec": {
                "type": "ClusterIP",
                "selector": labels,
                "ports": [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}],
            },
        },
    ]


def test_scaling_changes_no_pod():
    def template(replicas: int) -> Any:
        return serving_manifests(serving_spec(), replicas=replicas, site=SITE)[0]["spec"]["template"]

    assert template(1) == template(5)


def test_a_single_replica_does_not_hold_its_node_back():
    kinds = [it["kind"] for it in serving_manifests(serving_spec(), replicas=1, site=SITE)]
    assert kinds == ["Deployment", "Service"]


def test_a_job_fails_at_once_where_trying_again_cannot_help():
    labels = {"marketplace/resource": JOB}
    container = {
        **CONTAINER,
        "image": "registry.example/mirror/marketplace/tune-cuda:1",
        "env": [
            *ENVIRONMENT,
            {"name": "RUNTIME_JOB", "value": JOB},
            {"name": "TMPDIR", "value": "/tmp"},
        ],
        "volumeMounts": [
            {"name": "storage", "mountPath": "/output", "subPath": "outputs/a", "readOnly": False},
            *SCRATCH,
        ],
    }
    codes = {"operator": "In"}
    (job,) = tuning_manifests(tuning_spec(), site=SITE)
    assert without_hash(job) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "ftj-01jz4m8k3v9x2c5n7q0r1s6t8w",
            "namespace": NAMESPACE,
            "labels": OURS | labels,
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 3,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": codes | {"values": [65, 66, 76, 78]}},
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                    {"action": "Ignore", "onExitCodes": codes | {"values": [75, 143]}},
                ]
            },
            "template": {
                "metadata": {"labels": OURS | labels},
                "spec": POD
                | {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 60,
                    "containers": [container],
                },
            },
        },
    }


def test_several_nodes_train_as_one_indexed_job_whose_pods_find_each_other():
    peers, reach, job = tuning_manifests(replace(tuning_spec(), nodes=4), site=SITE)
    name = "ftj-01jz4m8k3v9x2c5n7q0r1s6t8w"
    assert {key: job["spec"][key] for key in ("completions", "parallelism", "completionMode")} == {
        "completions": 4,
        "parallelism": 4,
        "completionMode": "Indexed",
    }
    assert job["spec"]["template"]["spec"]["subdomain"] == name
    assert job["spec"]["template"]["spec"]["containers"][0]["env"][-5:] == [
        {"name": "PET_MASTER_ADDR", "value": f"{name}-0.{name}"},
        {"name": "PET_MASTER_PORT", "value": "29500"},
        {"name": "PET_NNODES", "value": "4"},
        {"name": "PET_NPROC_PER_NODE", "value": "2"},
        {
            "name": "PET_NODE_RANK",
            "valueFrom": {
                "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
            },
        },
    ]
    assert peers["spec"] == {
        "clusterIP": "None",
        "selector": {"marketplace/resource": JOB},
        "publishNotReadyAddresses": True,
        "ports": [{"name": "rendezvous", "port": 29500, "protocol": "TCP"}],
    }
    mine = {"matchLabels": {"marketplace/resource": JOB}}
    assert reach["spec"]["podSelector"] == mine
    assert reach["spec"]["ingress"] == [{"from": [{"podSelector": mine}]}]
    assert reach["spec"]["egress"][0] == {"to": [{"podSelector": mine}]}
    assert [port["port"] for port in reach["spec"]["egress"][1]["ports"]] == [53, 53]


def test_on_cpu_a_pod_asks_for_no_device_and_no_shared_memory():
    spec = replace(serving_spec(), resources=Resources(cpu_millicores=2000, memory_bytes=2**32))
    pod = serving_manifests(spec, replicas=1, site=SITE)[0]["spec"]["template"]["spec"]
    assert "runtimeClassName" not in pod
    assert [volume["name"] for volume in pod["volumes"]] == ["storage", "scratch"]
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "2000m", "memory": "4294967296"}


def test_the_local_cluster_takes_them():
    for manifest in (
        *serving_manifests(serving_spec(), replicas=2, site=LOCAL),
        *tuning_manifests(tuning_spec(), site=LOCAL),
    ):
        validate(manifest)


def test_specifications_stored_by_an_earlier_release_still_load():
    stored = tuning_spec().to_json()
    del stored["nodes"], stored["resources"]["attachment"]
    assert TuningSpec.from_json(json.loads(json.dumps(stored))) == tuning_spec()


def test_the_hash_changes_with_what_is_wanted_and_with_nothing_else():
    def hashes(**wanted: Any) -> list[str]:
        manifests = serving_manifests(serving_spec(**wanted), replicas=1, site=SITE)
        return [it["metadata"]["annotations"][SPEC_HASH_ANNOTATION] for it in manifests]

    assert hashes() == hashes()
    assert not set(hashes()) & set(hashes(revision=4))
