"""Installs the product by its chart, with a database and a broker beside it, and removes both again."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.e2e.cluster import Kube
from tests.processes import wait_until

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "helm"
RELEASE = "marketplace"
NAMESPACE = "marketplace-e2e"
SERVICES = "marketplace-e2e-services"
DATABASE_URL = f"postgres://postgres:e2e@postgres.{SERVICES}:5432/postgres"
BROKER_URL = f"redis://valkey.{SERVICES}:6379/0"
INSTALL_SECONDS = 600


class Installation:
    """One release of the chart."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.values = _values()
        self.web_url: str = self.values["web"]["url"]
        self.gateway_url: str = self.values["gateway"]["url"]
        self.api_key = ""

    def install(self) -> str:
        """Database and broker, the chart, and the first organization with its API key."""
        self.remove()
        self._kube.apply_file(HERE / "services.yaml")
        for name in ("postgres", "valkey"):
            wait_until(lambda name=name: self._is_up(SERVICES, name), seconds=180, what=f"{name} to be up")
        self._kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self._kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "marketplace", "namespace": NAMESPACE},
                "stringData": {
                    "database-url": DATABASE_URL,
                    "broker-url": BROKER_URL,
                    "secret-key": secrets.token_urlsafe(48),
                },
            }
        )
        with self._helm() as helm:
            helm.install(str(CHART), RELEASE, self.values, wait="watcher", timeout=INSTALL_SECONDS)
        wait_until(self._is_seeded, seconds=INSTALL_SECONDS, what="the catalog to be filled")
        printed = self._manage("bootstrap", "--organization", "e2e")
        self.api_key = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])["api_key"]
        phases = [pod["status"]["phase"] for pod in self._kube.list("v1", "Pod", namespace=NAMESPACE)]
        return f"{phases.count('Running')} pods are up"

    def remove(self) -> None:
        """Uninstalls; nothing of it is left."""
        with self._helm() as helm:
            if any(item["name"] == RELEASE for item in helm.list()):
                helm.uninstall(RELEASE, wait="watcher", timeout=INSTALL_SECONDS)
        for namespace in (NAMESPACE, SERVICES):
            self._kube.delete("v1", "Namespace", namespace)
        for namespace in (NAMESPACE, SERVICES):
            wait_until(
                lambda name=namespace: self._kube.get("v1", "Namespace", name) is None,
                seconds=180,
                what=f"the end of namespace {namespace}",
            )

    def _helm(self) -> helm_python.Config:
        return helm_python.Config(namespace=NAMESPACE, kubeconfig_path=self._kube.kubeconfig)

    def _is_up(self, namespace: str, name: str) -> bool:
        found = self._kube.get("apps/v1", "Deployment", name, namespace)
        return bool(found and found.get("status", {}).get("readyReplicas"))

    def _is_seeded(self) -> bool:
        return any(job.get("status", {}).get("succeeded") for job in self._migrations())

    def _migrations(self) -> list[dict[str, Any]]:
        return self._kube.list(
            "batch/v1", "Job", namespace=NAMESPACE, labels="app.kubernetes.io/component=migrate"
        )

    def _manage(self, *arguments: str) -> str:
        """Runs a management command in a pod like the migration's."""
        (job,) = self._migrations()
        pod = dict(job["spec"]["template"]["spec"])
        container = dict(pod["containers"][0]) | {"args": ["-m", "django", *arguments]}
        pod |= {"initContainers": [], "containers": [container]}
        return self._kube.run_job(NAMESPACE, f"manage-{arguments[0]}", pod)


def _values() -> dict[str, Any]:
    values = yaml.safe_load((HERE / "values.yaml").read_text())
    values["places"] = (HERE / "places.toml").read_text()
    more = os.environ.get("E2E_VALUES")
    return _merged(values, yaml.safe_load(Path(more).read_text())) if more else values


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values files: the second wins, objects are merged."""
    both = dict(first)
    for key, value in second.items():
        before = both.get(key)
        nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        both[key] = _merged(before, value) if nested else value
    return both
