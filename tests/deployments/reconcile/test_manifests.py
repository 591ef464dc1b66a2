from __future__ import annotations

from typing import Any

from deployments.clusters.port import SPEC_HASH_ANNOTATION
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
    "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": "marketplace-storage"}}],
}
CONTAINER = {
    "name": "runtime",
    "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def serving_spec(*, revision: int = 3) -> ServingSpec:
    return ServingSpec(
        resource=RESOURCE,
        organization=ORGANIZATION,
        revision=revision,
        image="marketplace/runtime-cuda:1",
        environment={"RUNTIME_TASK": "text-generation", "RUNTIME_HOST": "127.0.0.1", "RUNTIME_PORT": "1"},
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


def test_a_revision_is_a_namespace_a_deployment_and_a_service():
    labels = {"marketplace/resource": RESOURCE, "marketplace/revision": "3"}
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    container = {
        **CONTAINER,
        "image": "marketplace/runtime-cuda:1",
        "env": [
            {"name": "RUNTIME_TASK", "value": "text-generation"},
            {"name": "RUNTIME_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "RUNTIME_PORT", "value": "8000"},
        ],
        "volumeMounts": [{"name": "storage", "mountPath": "/model", "subPath": "models/a", "readOnly": True}],
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "startupProbe": probe | {"failureThreshold": 900},
        "readinessProbe": probe | {"failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }
    assert [without_hash(it) for it in serving_manifests(serving_spec(), replicas=2)] == [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": OURS},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "dep-01jz4m8k3v9x2c5n7q0r1s6t8w-r3",
                "namespace": NAMESPACE,
                "labels": OURS | labels,
            },
            "spec": {
                "replicas": 2,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": OURS | labels},
                    "spec": POD
                    | {
                        "restartPolicy": "Always",
                        "terminationGracePeriodSeconds": 30,
                        "containers": [container],
                    },
                },
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


def test_a_job_fails_at_once_where_trying_again_cannot_help():
    labels = {"marketplace/resource": JOB}
    container = {
        **CONTAINER,
        "image": "marketplace/tune-cuda:1",
        "env": [{"name": "RUNTIME_JOB", "value": JOB}],
        "volumeMounts": [
            {"name": "storage", "mountPath": "/output", "subPath": "outputs/a", "readOnly": False}
        ],
    }
    codes = {"containerName": "runtime", "operator": "In"}
    _, job = tuning_manifests(tuning_spec())
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
                    {"action": "FailJob", "onExitCodes": codes | {"values": [65, 78]}},
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


def test_a_cluster_takes_them():
    for manifest in (*serving_manifests(serving_spec(), replicas=1), *tuning_manifests(tuning_spec())):
        validate(manifest)


def test_the_hash_changes_with_what_is_wanted_and_with_nothing_else():
    def hashes(**wanted: Any) -> list[str]:
        manifests = serving_manifests(serving_spec(**wanted), replicas=1)
        return [it["metadata"]["annotations"][SPEC_HASH_ANNOTATION] for it in manifests]

    assert hashes() == hashes()
    assert [a == b for a, b in zip(hashes(), hashes(revision=4), strict=True)] == [True, False, False]
