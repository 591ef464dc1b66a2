"""Turns a specification into Kubernetes objects, as plain dicts. Pure: the same in, the same out.

Every object carries the labels of `deployments.clusters.port` and the hash of what we wanted, so that a
list of the cluster says whether anything has to be applied. What a container needs to know beyond its
specification is in `runtimes.contract`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from deployments.clusters.port import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESOURCE_LABEL,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    Manifest,
)
from deployments.reconcile.names import object_name, revision_name
from deployments.serving.spec import STORAGE_CLAIM, Mount, Resources, ServingSpec, TuningSpec
from runtimes import contract

CONTAINER = "runtime"
"""Name of the main container of every pod."""
USER_ID = 10001
"""Any number but 0: images must not rely on a name in /etc/passwd."""

START_PERIOD_SECONDS = 2
START_SECONDS = 1800
"""A start may load hundreds of gigabytes. The kubelet restarts a container that is not ready by then."""

HOPELESS_EXITS = (contract.ExitCode.BAD_INPUT, contract.ExitCode.BAD_CONFIGURATION)
"""The same data and settings would end the same way: a Job fails at once instead of trying again."""
SIGTERM_EXIT = 128 + 15
INTERRUPTED_EXITS = (contract.ExitCode.STOPPED, SIGTERM_EXIT)
"""Somebody stopped the container. Not a failure: it continues from its checkpoint, however often."""


def serving_manifests(spec: ServingSpec, *, replicas: int) -> tuple[Manifest, ...]:
    """Everything that one revision needs on the cluster to serve with `replicas` pods."""
    return (
        namespace(spec.organization),
        serving_deployment(spec, replicas=replicas),
        service(spec),
    )


def tuning_manifests(spec: TuningSpec) -> tuple[Manifest, ...]:
    """Everything that a fine-tuning job needs on the cluster."""
    return (namespace(spec.organization), tuning_job(spec))


def namespace(organization: str) -> Manifest:
    """The namespace that all objects of an organization (public id) live in."""
    return _hashed(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": object_name(organization),
                # Of no resource: it serves all of the organization's.
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            },
        }
    )


def serving_deployment(spec: ServingSpec, *, replicas: int) -> Manifest:
    """The pods of one revision.

    One object per revision: which revision serves is decided by the reconciler, not by a rolling update.
    """
    labels = {RESOURCE_LABEL: spec.resource, REVISION_LABEL: str(spec.revision)}
    return _hashed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(
                revision_name(spec.resource, revision=spec.revision), spec.organization, labels=labels
            ),
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": labels},
                # Within a revision only we change the template, when a new release of ours words it
                # differently. No request may fail for that.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels}},
                    "spec": _pod(spec, container=_serving_container(spec), restart_policy="Always"),
                },
            },
        }
    )


def service(spec: ServingSpec) -> Manifest:
    """The address of a deployment inside the cluster: the ready pods of the revision `spec`."""
    return _hashed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(
                object_name(spec.resource),
                spec.organization,
                labels={RESOURCE_LABEL: spec.resource, REVISION_LABEL: str(spec.revision)},
            ),
            "spec": {
                "type": "ClusterIP",
                "selector": {RESOURCE_LABEL: spec.resource, REVISION_LABEL: str(spec.revision)},
                "ports": [{"name": "http", "port": contract.PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def tuning_job(spec: TuningSpec) -> Manifest:
    """The training run. Restarts after failures that may pass; never two pods at once on one checkpoint."""
    labels = {RESOURCE_LABEL: spec.resource}
    return _hashed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": _metadata(object_name(spec.resource), spec.organization, labels=labels),
            "spec": {
                "completions": 1,
                "parallelism": 1,
                "backoffLimit": spec.retries,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    # The first rule that matches decides.
                    "rules": [
                        {
                            "action": "FailJob",
                            "onExitCodes": {
                                "containerName": CONTAINER,
                                "operator": "In",
                                "values": [int(code) for code in HOPELESS_EXITS],
                            },
                        },
                        {
                            "action": "Ignore",
                            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                        },
                        {
                            "action": "Ignore",
                            "onExitCodes": {
                                "containerName": CONTAINER,
                                "operator": "In",
                                "values": [int(code) for code in INTERRUPTED_EXITS],
                            },
                        },
                    ]
                },
                "template": {
                    "metadata": {"labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels}},
                    "spec": _pod(spec, container=_container(spec), restart_policy="Never"),
                },
            },
        }
    )


def _metadata(name: str, organization: str, *, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": object_name(organization),
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels},
    }


def _pod(spec: ServingSpec | TuningSpec, *, container: dict[str, Any], restart_policy: str) -> dict[str, Any]:
    return {
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": spec.grace_seconds,
        # Customers' models run here: nothing in the pod may speak to the API server.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            # Walking through terabytes of weights to change their group takes longer than loading them.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": dict(spec.resources.node_selector),
        "tolerations": [dict(toleration) for toleration in spec.resources.tolerations],
        "containers": [container],
        "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": STORAGE_CLAIM}}],
    }


def _container(spec: ServingSpec | TuningSpec) -> dict[str, Any]:
    amounts = _amounts(spec.resources)
    return {
        "name": CONTAINER,
        "image": spec.image,
        "env": [{"name": name, "value": value} for name, value in sorted(spec.environment.items())],
        # Equal, so that a neighbor's load can neither slow the pod down nor evict it.
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [_volume_mount(mount) for mount in spec.mounts],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _serving_container(spec: ServingSpec) -> dict[str, Any]:
    container = _container(spec)
    # Where to listen is the cluster's to say, whatever the specification was built with.
    given = [item for item in container["env"] if item["name"] not in ("RUNTIME_HOST", "RUNTIME_PORT")]
    return {
        **container,
        "env": [
            *given,
            {"name": "RUNTIME_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "RUNTIME_PORT", "value": str(contract.PORT)},
        ],
        "ports": [{"name": "http", "containerPort": contract.PORT, "protocol": "TCP"}],
        # Liveness and readiness begin once the startup probe has passed.
        "startupProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "http"},
            "periodSeconds": START_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": START_SECONDS // START_PERIOD_SECONDS,
        },
        "readinessProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "http"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        # Patient: a busy model must not be killed for being slow to answer.
        "livenessProbe": {
            "httpGet": {"path": contract.LIVE_PATH, "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _amounts(resources: Resources) -> dict[str, str]:
    amounts = {"cpu": f"{resources.cpu_millicores}m", "memory": str(resources.memory_bytes)}
    if resources.accelerator_resource:
        amounts[resources.accelerator_resource] = str(resources.accelerator_count)
    return amounts


def _volume_mount(mount: Mount) -> dict[str, Any]:
    return {
        "name": "storage",
        "mountPath": mount.mount_path,
        "subPath": mount.sub_path,
        "readOnly": mount.read_only,
    }


def _hashed(manifest: dict[str, Any]) -> Manifest:
    """The manifest with the hash of itself as an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    spec_hash = hashlib.sha256(text.encode()).hexdigest()[:32]
    metadata = {**manifest["metadata"], "annotations": {SPEC_HASH_ANNOTATION: spec_hash}}
    return {**manifest, "metadata": metadata}
