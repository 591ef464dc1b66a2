"""Manifests for the tests, as the reconciler writes them: small, and with everything that a cluster reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

IMAGE = "tests/container:1"
NAMESPACE = "org-alice"
PORT = 8000


def labels(resource: str, revision: int | None = None) -> dict[str, str]:
    found = {"app.kubernetes.io/managed-by": "marketplace", "marketplace/resource": resource}
    return found | ({"marketplace/revision": str(revision)} if revision is not None else {})


def namespace(name: str = NAMESPACE) -> dict[str, Any]:
    managed = {"app.kubernetes.io/managed-by": "marketplace"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": managed}}


def probe(path: str = "/ready", **numbers: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "periodSeconds": 1, **numbers}


def container(
    *args: str,
    env: Mapping[str, str] | None = None,
    image: str = IMAGE,
    cpu: str = "100m",
    memory: str = "64Mi",
    **more: Any,
) -> dict[str, Any]:
    own = [{"name": "RUNTIME_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    return {
        "name": "main",
        "image": image,
        "args": list(args),
        "env": own + [{"name": name, "value": value} for name, value in (env or {}).items()],
        "ports": [{"containerPort": PORT, "name": "http"}],
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}},
        **more,
    }


def server(env: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A container that serves and says when it is ready."""
    return container("serve", env=env, **({"readinessProbe": probe()} | more))


def pod_template(
    resource: str,
    spec: Mapping[str, Any],
    *,
    revision: int | None = None,
    grace: int = 5,
    restart: str = "Always",
    volumes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels(resource, revision)},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": grace,
            "containers": [dict(spec)],
            "volumes": list(volumes),
        },
    }


def _metadata(resource: str, revision: int | None = None) -> dict[str, Any]:
    return {
        "name": resource.replace("_", "-"),
        "namespace": NAMESPACE,
        "labels": labels(resource, revision),
        "annotations": {"marketplace/spec-hash": "hash-1"},
    }


def deployment(
    resource: str = "dep_one", spec: Mapping[str, Any] | None = None, *, replicas: int = 1, **template: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(resource, 1),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"marketplace/resource": resource}},
            "template": pod_template(resource, spec or server(), revision=1, **template),
        },
    }


def job(
    resource: str = "ftj_one", spec: Mapping[str, Any] | None = None, *, retries: int = 3, **template: Any
) -> dict[str, Any]:
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [65, 78]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(resource),
        "spec": {
            "completions": 1,
            "backoffLimit": retries,
            "podFailurePolicy": {"rules": rules},
            "template": pod_template(resource, spec or container("exit", "0"), restart="Never", **template),
        },
    }


def service(resource: str = "dep_one") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(resource),
        "spec": {
            "selector": {"marketplace/resource": resource},
            "ports": [{"port": 80, "targetPort": PORT}],
        },
    }
