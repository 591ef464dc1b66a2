"""The test's own view of the cluster, through the official client: what an operator does with kubectl."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError

from tests.processes import wait_until

FIELD_MANAGER = "marketplace-e2e"
KINDS = (
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "PersistentVolumeClaim"),
)
"""Kinds that a deployment or a job may leave behind."""


class Kube:
    """Reads and breaks things."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._api = config.new_client_from_config(str(kubeconfig))
        self._dynamic = DynamicClient(self._api)

    @property
    def version(self) -> str:
        return str(client.VersionApi(self._api).get_code().git_version)

    def apply_file(self, path: Path) -> None:
        for document in yaml.safe_load_all(path.read_text()):
            self.apply(document)

    def apply(self, manifest: dict[str, Any]) -> None:
        self._kind(manifest["apiVersion"], manifest["kind"]).server_side_apply(
            body=manifest,
            name=manifest["metadata"]["name"],
            namespace=manifest["metadata"].get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Any | None:
        """The object as a dict; None when it is not there."""
        try:
            found = self._kind(api_version, kind).get(name=name, namespace=namespace)
        except NotFoundError:
            return None
        return found.to_dict()

    def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: str = ""
    ) -> list[dict[str, Any]]:
        found = self._kind(api_version, kind).get(namespace=namespace, label_selector=labels or None)
        return [item.to_dict() for item in found.items]

    def patch(self, api_version: str, kind: str, name: str, namespace: str, change: dict[str, Any]) -> None:
        """A merge patch by somebody with a command line."""
        self._kind(api_version, kind).patch(
            name=name,
            namespace=namespace,
            body=change,
            content_type="application/merge-patch+json",
            field_manager="kubectl-edit",
        )

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> None:
        try:
            self._kind(api_version, kind).delete(
                name=name, namespace=namespace, body={"propagationPolicy": "Background"}
            )
        except NotFoundError:
            return

    def pods(self, resource: str) -> list[dict[str, Any]]:
        return self.list("v1", "Pod", labels=f"marketplace/resource={resource}")

    def left_of(self, resource: str) -> list[str]:
        """Kind and name of every object that carries the resource's label."""
        return [
            f"{kind} {item['metadata']['name']}"
            for api_version, kind in KINDS
            for item in self.list(api_version, kind, labels=f"marketplace/resource={resource}")
        ]

    def log(self, pod: dict[str, Any], *, container: str) -> str:
        metadata = pod["metadata"]
        core = client.CoreV1Api(self._api)
        return str(core.read_namespaced_pod_log(metadata["name"], metadata["namespace"], container=container))

    def logs(self, namespace: str, labels: str) -> Iterator[str]:
        """The last lines of each matching pod, for a failed run."""
        core = client.CoreV1Api(self._api)
        for pod in core.list_namespaced_pod(namespace, label_selector=labels).items:
            try:
                text = core.read_namespaced_pod_log(pod.metadata.name, namespace, tail_lines=40)
            except client.ApiException as error:
                text = f"(no log: {error.reason})"
            yield f"--- {pod.metadata.name} ({pod.status.phase})\n{text}"

    def run_job(self, namespace: str, name: str, pod: dict[str, Any], *, seconds: float = 120) -> str:
        """Runs a pod to its end and returns what it printed."""
        core = client.CoreV1Api(self._api)
        self.delete("v1", "Pod", name, namespace)
        wait_until(lambda: self.get("v1", "Pod", name, namespace) is None, what=f"the end of {name}")
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": pod | {"restartPolicy": "Never"},
            }
        )

        def phase() -> str:
            found = self.get("v1", "Pod", name, namespace)
            return str((found or {}).get("status", {}).get("phase"))

        wait_until(lambda: phase() in ("Succeeded", "Failed"), seconds=seconds, what=f"the end of {name}")
        text = core.read_namespaced_pod_log(name, namespace, container=pod["containers"][0]["name"])
        assert phase() == "Succeeded", f"{name} failed:\n{text}"
        self.delete("v1", "Pod", name, namespace)
        return str(text)

    def _kind(self, api_version: str, kind: str) -> Any:
        return self._dynamic.resources.get(api_version=api_version, kind=kind)


def break_node(variable: str, node: str) -> bool:
    """Runs the command in an environment variable on a node; False when there is none."""
    command = os.environ.get(variable)
    if not command:
        return False
    subprocess.run(shlex.split(command.format(node=node)), check=True, capture_output=True, timeout=60)
    return True
