"""Graphcore's operator: gives each instance of an IPUJob a partition of IPUs and a worker pod.

    standin.do(install_ipu_operator)     # makes the kind known; nodes with the label vipu-ctrl have the IPUs

It holds to the rules that surprise people: a pod that is deleted alone comes back, partitions are whole and
go back when the IPUJob goes, by a finalizer. The length of names and the sizes are the definition's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.pods import controller_of, is_finished, is_ready, make_pod, phase, pods_of
from tests.kubernetes.controllers.recording import Recorder

DEFINITION: Mapping[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "ipujob_crd.yaml").read_text())
FINALIZER = "ipu.graphcore.ai/partition"
CONTROLLER_LABEL = "vipu-ctrl"
IPUS_PER_CONTROLLER = 64
RETRY_SECONDS = 0.5
NAME, MANAGER = "IPUJob", "ipu-operator"


def install_ipu_operator(server: Server) -> None:
    """Makes IPUJob a kind of the server. To be called in its thread."""
    server.create(server.kinds["CustomResourceDefinition"], "", DEFINITION)


class IpuJobs:
    """The operator. Idle until the kind is there."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._events = Recorder(server, MANAGER)
        self._partitions: dict[tuple[str, int], tuple[str, int]] = {}
        """(uid of the IPUJob, instance) -> (V-IPU controller, IPUs)."""

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind.kind == NAME:
            return [there.key]
        owner = controller_of(there.value) if change.kind.kind == "Pod" else None
        return [(there.namespace, owner["name"])] if owner and owner["kind"] == NAME else []

    def reconcile(self, key: Hashable) -> float | None:
        namespace, name = key  # type: ignore[misc]
        live = self._server.store.get(self._kind(), namespace, name)
        if live is None:
            return None
        finalizers = list(live.metadata.get("finalizers") or ())
        if live.is_deleting:
            return self._let_go(live, finalizers)
        if FINALIZER not in finalizers:
            live = self._server.set_metadata(live, finalizers=[*finalizers, FINALIZER])
        spec = live.value["spec"]
        wanted, ipus = int(spec.get("jobInstances", 1)), int(spec["ipusPerJobInstance"])
        message, again = "", None
        for instance in range(wanted):
            if message := self._acquire(live, instance, ipus):
                again = RETRY_SECONDS
                break
            self._work(live, instance)
        self._report(live, wanted, message)
        return again

    def _kind(self) -> Kind:
        return self._server.kinds[NAME]

    def _acquire(self, live: Stored, instance: int, ipus: int) -> str:
        """Makes the partition of an instance if there is none. Returns why it cannot."""
        if (live.uid, instance) in self._partitions:
            return ""
        failed = f"Failed to acquire {ipus} IPU(s)"
        nodes = self._server.store.all(self._server.kinds["Node"])
        controllers = sorted(
            {node.labels[CONTROLLER_LABEL] for node in nodes if CONTROLLER_LABEL in node.labels}
        )
        for controller in controllers:
            taken = sum(size for where, size in self._partitions.values() if where == controller)
            if taken + ipus <= IPUS_PER_CONTROLLER:
                self._partitions[live.uid, instance] = controller, ipus
                return ""
        self._events.record(live, "FailedPartition", failed, warning=True)
        return failed

    def _work(self, live: Stored, instance: int) -> None:
        """Sees to the worker of an instance; one that ended by itself is not made again."""
        name = f"{live.name}-worker-{instance}"
        if self._server.store.get(self._server.kinds["Pod"], live.namespace, name) is not None:
            return
        controller, _ = self._partitions[live.uid, instance]
        template = live.value["spec"]["workers"]["template"]
        partition = f"p-{live.name}-{live.namespace}-{instance}"
        variables = {
            "IPUOF_VIPU_API_HOST": controller,
            "IPUOF_VIPU_API_PORT": "8090",
            "IPUOF_VIPU_API_PARTITION_ID": partition,
        }
        env = [{"name": key, "value": value} for key, value in variables.items()]
        containers = [
            {
                **item,
                "env": [*(item.get("env") or ()), *env],
                "securityContext": {**(item.get("securityContext") or {}), **_PRIVILEGED},
            }
            for item in template["spec"]["containers"]
        ]
        selector = {**(template["spec"].get("nodeSelector") or {}), CONTROLLER_LABEL: controller}
        changes = {
            "containers": containers,
            "nodeSelector": selector,
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
        }
        make_pod(self._server, live, template, name=name, spec=changes)

    def _let_go(self, live: Stored, finalizers: list[str]) -> float | None:
        pods = pods_of(self._server, live)
        for pod in pods:
            if not pod.is_deleting:
                self._server.delete(pod.kind, *pod.key)
        if pods_of(self._server, live):
            return RETRY_SECONDS
        for key in [key for key in self._partitions if key[0] == live.uid]:
            del self._partitions[key]
        if FINALIZER in finalizers:
            left = [name for name in finalizers if name != FINALIZER]
            self._server.set_metadata(live, finalizers=left)
        return None

    def _report(self, live: Stored, wanted: int, message: str) -> None:
        pods = pods_of(self._server, live)
        if any(phase(pod) == "Failed" for pod in pods):
            status = "Failed"
        elif pods and len(pods) == wanted and all(phase(pod) == "Succeeded" for pod in pods):
            status = "Completed"
        else:
            running = [pod for pod in pods if is_ready(pod) and not is_finished(pod)]
            status = "Running" if len(running) == wanted else "Pending"
        found = {"status": status, "current": len(pods), "desired": wanted, "lastMessage": message}
        self._server.set_status(self._server.get(live.kind, *live.key), found, manager=MANAGER)


_PRIVILEGED = {"privileged": True, "allowPrivilegeEscalation": True}
