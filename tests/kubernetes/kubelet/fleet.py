"""Any number of nodes in one thread: registers them, renews their leases, and hands their pods to a runner.

fleet = Fleet(kubeconfig, [virtual("gpu-1", gpus=2)], Scripted()).start()
fleet.fail("gpu-1")       # the machine is lost: no lease, no word about its pods
fleet.recover("gpu-1")
fleet.stop()              # nodes are removed, unless told otherwise
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import aiohttp

from tests.kubernetes.kubelet.client import MERGE, STRATEGIC, ApiError, Client
from tests.kubernetes.kubelet.nodes import Node, micro_stamp, stamp

logger = logging.getLogger(__name__)

T = TypeVar("T")
LEASE_SECONDS = 1.0
AGENT = "standin-kubelet/1"
RETRY_SECONDS = 0.1

Pod = dict[str, Any]
ERRORS = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


class Runner(Protocol):
    """What lives the lives of pods. Used in the fleet's loop."""

    async def begin(self, fleet: Fleet) -> None:
        """Called once, before any pod."""
        ...

    def sync(self, pod: Pod) -> None:
        """A pod of ours is new or has changed."""
        ...

    def gone(self, pod: Pod) -> None:
        """A pod of ours is no more."""
        ...

    def node_failed(self, name: str) -> None:
        """The machine is lost, with all that runs on it."""
        ...

    def node_recovered(self, name: str) -> None:
        """It is there again, with nothing running."""
        ...

    async def end(self) -> None:
        """Called once, after the last pod."""
        ...


class Fleet:
    """The nodes of a test."""

    def __init__(
        self,
        kubeconfig: Path,
        nodes: Iterable[Node],
        runner: Runner,
        *,
        leases: bool = True,
        keep_nodes: bool = False,
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.runner = runner
        self.client = Client(kubeconfig, agent=AGENT)
        self.failed: set[str] = set()
        self.port = 0
        """Where the API server reads logs; 0 = nowhere. Set by the runner."""
        self.pods: dict[str, Pod] = {}
        """By uid: the pods that are bound to our nodes, as last seen."""
        self._leases, self._keep_nodes = leases, keep_nodes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubelets", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listed = asyncio.Event()

    # --- Life ----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Returns when the nodes are ready and their pods are known."""
        self._thread.start()
        self._wait(self._begin())
        return self

    def stop(self) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- What tests do to it -------------------------------------------------------------------------------

    def do(self, act: Callable[[], T]) -> T:
        """Runs a function in the fleet's thread."""

        async def run() -> T:
            return act()

        return self._wait(run())

    def add(self, node: Node) -> None:
        """One more node."""
        self.nodes[node.name] = node
        self._wait(self._register(node))

    def remove(self, name: str) -> None:
        """The node leaves the cluster, as when an autoscaler takes it."""
        self.nodes.pop(name)
        self._wait(self._unregister(name))

    def fail(self, name: str) -> None:
        """The machine is lost: its kubelet is silent and its containers are gone."""
        self.failed.add(name)
        self.do(lambda: self.runner.node_failed(name))

    def recover(self, name: str) -> None:
        """The machine is there again."""
        self.failed.discard(name)
        self.do(lambda: self.runner.node_recovered(name))
        self._wait(self._say_ready(self.nodes[name]))
        for pod in list(self.pods.values()):
            if pod["spec"]["nodeName"] == name:
                self.do(lambda pod=pod: self.runner.sync(pod))  # type: ignore[misc]

    # --- For runners ---------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs something in the fleet's loop until it is done or the fleet stops."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a kubelet's work failed", exc_info=error)

    async def report(self, pod: Pod, status: Mapping[str, Any]) -> Pod | None:
        """Writes a pod's status, as often as it takes. Returns the pod; None when it is no more."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        body = {"metadata": {"uid": metadata["uid"]}, "status": status}
        return await self._insist("PATCH", path, body, content=STRATEGIC)

    async def remove_pod(self, pod: Pod) -> None:
        """Confirms that nothing of a pod that is being deleted is left."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        await self._insist("DELETE", path, body)

    async def record(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Says something of a pod by an event."""
        metadata, now = pod["metadata"], stamp()
        about = {name: metadata[name] for name in ("namespace", "name", "uid")}
        event = {
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {"kind": "Pod", "apiVersion": "v1", **about},
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "kubelet", "host": pod["spec"]["nodeName"]},
            "reportingComponent": "kubelet",
            "reportingInstance": pod["spec"]["nodeName"],
        }
        with suppress(*ERRORS):
            await self.client.request("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", event)

    async def _insist(self, method: str, path: str, body: Any, **more: str) -> dict[str, Any] | None:
        while True:
            try:
                return await self.client.request(method, path, body, **more)
            except ApiError as error:
                if error.code in (404, 409):  # it is no more, or another one has its name
                    return None
                if error.code < 429:
                    logger.error("%s %s: %s", method, path, error)
                    return None
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(RETRY_SECONDS)

    # --- The thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)

    async def _begin(self) -> None:
        await self.client.__aenter__()
        await self.runner.begin(self)
        for node in self.nodes.values():
            await self._register(node)
        self.spawn(self._follow_pods())
        if self._leases:
            self.spawn(self._renew_leases())
        await self._listed.wait()

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.runner.end()
        if not self._keep_nodes:
            for name in self.nodes:
                with suppress(*ERRORS):
                    await self._unregister(name)
        await self.client.__aexit__(None, None, None)

    # --- Nodes ---------------------------------------------------------------------------------------------

    async def _register(self, node: Node) -> None:
        if self._leases:
            await self._renew(node.name)
        try:
            await self.client.request("POST", "/api/v1/nodes", node.manifest())
        except ApiError as error:
            if error.code != 409:
                raise
            await self.client.patch(f"/api/v1/nodes/{node.name}", node.manifest(), content=MERGE)
        await self._say_ready(node)

    async def _say_ready(self, node: Node) -> None:
        if self._leases:
            await self._renew(node.name)
        # A real control plane taints a new node until it is ready; taints of ours stay.
        await self.client.patch(
            f"/api/v1/nodes/{node.name}/status", {"status": node.status(port=self.port)}, content=STRATEGIC
        )

    async def _unregister(self, name: str) -> None:
        for path in (
            f"/api/v1/nodes/{name}",
            f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}",
        ):
            with suppress(ApiError):
                await self.client.request("DELETE", path)

    async def _renew_leases(self) -> None:
        while True:
            for name in list(self.nodes):
                if name not in self.failed:
                    with suppress(*ERRORS):
                        await self._renew(name)
            await asyncio.sleep(LEASE_SECONDS)

    async def _renew(self, name: str) -> None:
        folder = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_stamp()}
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec}
        try:
            await self.client.patch(f"{folder}/{name}", {"spec": spec}, content=MERGE)
        except ApiError as error:
            if error.code != 404:
                raise
            await self.client.request("POST", folder, lease)

    # --- Pods ----------------------------------------------------------------------------------------------

    async def _follow_pods(self) -> None:
        """Lists, watches, and begins again whenever the watch ends."""
        while True:
            try:
                page = await self.client.request("GET", "/api/v1/pods", fieldSelector="spec.nodeName!=")
                self._take(page["items"])
                self._listed.set()
                revision = page["metadata"]["resourceVersion"]
                async for event in self.client.watch(
                    "/api/v1/pods", resourceVersion=revision, fieldSelector="spec.nodeName!="
                ):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "BOOKMARK":
                        self._see(event["object"], gone=event["type"] == "DELETED")
            except ERRORS as error:
                logger.info("the pods cannot be followed: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, items: list[Pod]) -> None:
        there = {pod["metadata"]["uid"] for pod in items}
        for uid in [uid for uid in self.pods if uid not in there]:
            self._see(self.pods[uid], gone=True)
        for pod in items:
            self._see(pod, gone=False)

    def _see(self, pod: Pod, *, gone: bool) -> None:
        node, uid = pod["spec"].get("nodeName"), pod["metadata"]["uid"]
        if node not in self.nodes:
            return
        if gone:
            if self.pods.pop(uid, None) is not None:
                self.runner.gone(pod)
            return
        known = self.pods.get(uid)
        if known and known["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]:
            return
        self.pods[uid] = pod
        if node not in self.failed:
            self.runner.sync(pod)
