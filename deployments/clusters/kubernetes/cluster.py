"""The port to a Kubernetes cluster. Decisions are in the modules beside; here are the calls."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from deployments.clusters.errors import ClusterConflict, ClusterRejected, ClusterUnreachable
from deployments.clusters.kubernetes.claim import Claim
from deployments.clusters.kubernetes.connection import (
    APPLY,
    JSON,
    JSON_PATCH,
    Connection,
    Gone,
    NotFound,
    translated,
)
from deployments.clusters.kubernetes.credentials import open_client
from deployments.clusters.kubernetes.events import observed_events
from deployments.clusters.kubernetes.kinds import EVENT, KINDS, NODE, POD, ObjectKind, kind_of
from deployments.clusters.kubernetes.loglines import numbered
from deployments.clusters.kubernetes.nodes import node_capacities
from deployments.clusters.kubernetes.objects import INSTALLATION_LABEL, labeled, observed_object
from deployments.clusters.kubernetes.pods import observed_pod
from deployments.clusters.kubernetes.settings import Settings
from deployments.clusters.kubernetes.watching import METADATA_LIST, Watching
from deployments.clusters.ownership import adopted, foreign_entries
from deployments.clusters.port import (
    FIELD_MANAGER,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESOURCE_LABEL,
    LogLine,
    Manifest,
    NodeCapacity,
    ObjectRef,
    Observation,
    ObservedEvent,
    ObservedObject,
)

CONNECTIONS = 4
"""That one process keeps to one cluster; a watch has its own."""
PAGE = 10_000
"""Objects of one answer. Large, so that a list stays one call; limited, so that none fills our memory."""
DISCOVERY_SECONDS = 60
"""How long it is remembered that the cluster has, or does not have, the kinds of an operator."""
ADOPTIONS = 5
"""How often an apply goes after what others have added before it gives up."""
LISTS = 3
"""How often a list is begun again that got too old between two of its pages."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles, which walks through a large list again and again while it is read.

    There are none in JSON. 5,000 deployments with their pods take 1.7 s of CPU instead of 4.2.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _has_foreign_fields(record: Mapping[str, Any]) -> bool:
    return bool(foreign_entries(record["metadata"].get("managedFields") or (), manager=FIELD_MANAGER))


class KubernetesCluster:
    """A Kubernetes cluster, 1.30 or newer. See `deployments.clusters.port.Cluster`.

    `database` is the identity of the database that our objects are kept in; see `claim`.

    Raises ClusterMisconfigured, before anything is connected, for a configuration that cannot be used; and at
    every call that observes or changes, when the objects are those of another database.
    """

    def __init__(self, *, name: str, configuration: Mapping[str, Any], database: str = "") -> None:
        self.name = name
        self.settings = Settings.of(configuration)
        self._connection = Connection(open_client(self.settings, connections=CONNECTIONS))
        self._selector = f"{MANAGED_BY_LABEL}={MANAGED_BY},{INSTALLATION_LABEL}={self.settings.installation}"
        self._claim = Claim(
            installation=self.settings.installation, database=database, apply=self._apply_without_force
        )
        self._looked_at: dict[str, tuple[float, bool]] = {}
        """Path of an optional kind -> when it was looked for, and whether it was there."""

    # --- Observing ------------------------------------------------------------------------------------------

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        """One list per kind and namespace. Of one resource, only the kinds that belong to resources."""
        self._claim.hold()
        selector = self._selector if resource is None else f"{self._selector},{RESOURCE_LABEL}={resource}"
        places = sorted(namespaces) or [""]
        # Objects before pods: an object goes after its pods, so no pod can seem to have outlived its object.
        objects: list[ObservedObject] = []
        with _uncollected():
            for kind in KINDS:
                if kind.observed and not (kind.shared and resource is not None):
                    objects += [
                        observed_object(item, kind=kind)
                        for place in places
                        for item in self._list(kind, selector, namespace=place)
                    ]
            pods = [
                observed_pod(item) for place in places for item in self._list(POD, selector, namespace=place)
            ]
        return Observation(
            objects=tuple(objects), pods=tuple(sorted(pods, key=lambda pod: (pod.created_at, pod.name)))
        )

    def nodes(self) -> list[NodeCapacity]:
        """Two lists: nodes, and the pods of everybody that are bound and not finished."""
        bound = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
        with _uncollected():
            return node_capacities(self._list(NODE), self._list(POD, field_selector=bound))

    def _list(
        self, kind: ObjectKind, selector: str = "", *, namespace: str = "", field_selector: str = ""
    ) -> list[dict[str, Any]]:
        """All objects of a kind as of now: without a resource version none is older than the call."""
        if kind.optional and not self._has(kind):
            return []
        for _ in range(LISTS):
            try:
                return self._pages(kind, selector, namespace=namespace, field_selector=field_selector)
            except Gone:
                continue
            except NotFound:
                if kind.optional:
                    self._looked_at[kind.path()] = (time.monotonic(), False)
                    return []
                raise ClusterUnreachable(
                    f"list {kind.plural}: {self._connection.host} has no such kind"
                ) from None
        raise ClusterUnreachable(f"list {kind.plural}: changed faster than it could be read")

    def _pages(
        self, kind: ObjectKind, selector: str, *, namespace: str, field_selector: str
    ) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            query = [("labelSelector", selector), ("fieldSelector", field_selector), ("limit", PAGE)]
            page = self._connection.get(
                kind.path(namespace),
                query=[(key, value) for key, value in [*query, ("continue", token)] if value],
                accept=JSON if kind.has_status or not kind.observed else METADATA_LIST,
                action=f"list {kind.plural}",
            )
            items += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def _has(self, kind: ObjectKind) -> bool:
        """Whether the cluster has the operator of a kind. Looked for again after a while."""
        at, found = self._looked_at.get(kind.path(), (0.0, False))
        if not at or time.monotonic() - at > DISCOVERY_SECONDS:
            try:
                listed = self._connection.get(f"/apis/{kind.api_version}", action=f"look for {kind.kind}")
                found = any(item.get("name") == kind.plural for item in listed.get("resources") or ())
            except NotFound:
                found = False
            self._looked_at[kind.path()] = (time.monotonic(), found)
        return found

    # --- Changing -------------------------------------------------------------------------------------------

    def apply(self, manifest: Manifest) -> None:
        """Server-side apply; what others have changed becomes ours again, and what they have added goes."""
        self._claim.hold()
        ref = ObjectRef.of(manifest)
        kind = kind_of(ref)
        wanted = labeled(manifest, installation=self.settings.installation)
        found = self._apply(ref, kind, wanted)
        for _ in range(ADOPTIONS):
            if kind.grows or not _has_foreign_fields(found):
                break
            self._adopt(ref, kind, found)
            found = self._apply(ref, kind, wanted)
        else:
            raise ClusterConflict(f"{ref}: somebody keeps changing it")
        if found["metadata"].get("deletionTimestamp"):
            raise ClusterConflict(f"{ref} is being deleted; apply it again when it is gone")

    def _apply(self, ref: ObjectRef, kind: ObjectKind, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._patch(
            ref,
            kind,
            wanted,
            query=(("fieldManager", FIELD_MANAGER), ("force", "true"), ("fieldValidation", "Strict")),
            content_type=APPLY,
        )

    def _apply_without_force(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        ref = ObjectRef.of(manifest)
        query = (("fieldManager", manager), ("fieldValidation", "Strict"))
        return self._patch(ref, kind_of(ref), manifest, query=query, content_type=APPLY)

    def _adopt(self, ref: ObjectRef, kind: ObjectKind, found: Mapping[str, Any]) -> None:
        """Counts what others have added as ours, so that applying without it removes it.

        Does nothing if the object has changed since: a controller reports its status just then.
        """
        metadata = found["metadata"]
        patch = [
            # The very object that was looked at, or none.
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {
                "op": "replace",
                "path": "/metadata/managedFields",
                "value": adopted(metadata["managedFields"], manager=FIELD_MANAGER),
            },
        ]
        with suppress(ClusterRejected, ClusterConflict):
            self._patch(ref, kind, patch, query=(("fieldManager", FIELD_MANAGER),), content_type=JSON_PATCH)

    def _patch(
        self, ref: ObjectRef, kind: ObjectKind, body: Any, *, query: Any, content_type: str
    ) -> dict[str, Any]:
        path = kind.path(ref.namespace, ref.name)
        try:
            return self._connection.patch(
                path, body, query=query, content_type=content_type, action=f"apply {ref}"
            )
        except NotFound:
            raise ClusterRejected(
                f"apply {ref}: the cluster has no {kind.kind} ({kind.api_version}); install what brings it",
                field="kind",
            ) from None
        except Gone as error:
            raise ClusterUnreachable(str(error)) from error

    def delete(self, ref: ObjectRef) -> None:
        """In the foreground where pods are owned: the object is seen until they are gone."""
        self._claim.hold()
        kind = kind_of(ref)
        policy = "Foreground" if kind.owns_pods else "Background"
        try:
            self._connection.delete(
                kind.path(ref.namespace, ref.name), {"propagationPolicy": policy}, action=f"delete {ref}"
            )
        except (NotFound, Gone):
            return

    # --- Looking closer -------------------------------------------------------------------------------------

    def logs(
        self,
        resource: str,
        *,
        namespaces: Collection[str] = (),
        pod: str | None = None,
        container: str = "",
        after: int = 0,
        limit: int = 1000,
        tail: bool = False,
    ) -> list[LogLine]:
        """Of a container that was started again: its run before the present one, then the present one.

        Older runs are forgotten by Kubernetes, and so is all when the pod is removed.
        """
        selector = f"{self._selector},{RESOURCE_LABEL}={resource}"
        places = sorted(namespaces) or [""]
        records = [item for place in places for item in self._list(POD, selector, namespace=place)]
        found = [item for item in records if pod in (None, item["metadata"]["uid"])]
        if not found:
            return []
        record = max(found, key=lambda item: item["metadata"].get("creationTimestamp") or "")
        name = container or record["spec"]["containers"][0]["name"]
        try:
            return numbered(self._output(record, name), after=after, limit=limit, tail=tail)
        except ClusterUnreachable:
            if self._answers(record["spec"].get("nodeName", "")):
                raise
            return []  # gone with its node

    def _output(self, record: Mapping[str, Any], container: str) -> Iterator[bytes]:
        """The bytes of a container's last two runs, oldest first."""
        statuses = [
            item
            for key in ("containerStatuses", "initContainerStatuses")
            for item in (record.get("status") or {}).get(key) or ()
        ]
        status = next((item for item in statuses if item.get("name") == container), None)
        if status is None:
            return  # not there, or not begun
        runs = [True, False] if status.get("restartCount") else [False]
        for previous in runs:
            yield from self._run_output(record["metadata"], container, previous=previous)

    def _run_output(self, metadata: Mapping[str, Any], container: str, *, previous: bool) -> Iterator[bytes]:
        action = f"read the log of {container} in pod {metadata['namespace']}/{metadata['name']}"
        query = (("container", container), ("previous", "true" if previous else "false"))
        path = f"{POD.path(metadata['namespace'], metadata['name'])}/log"
        try:
            response = self._connection.stream(
                path, query=query, accept="*/*", silence_seconds=30, action=action
            )
        except (NotFound, Gone):
            return
        except ClusterRejected:
            return  # the container has not begun, or its earlier run is forgotten
        try:
            with translated(action):
                yield from response.stream(64 * 1024)
        finally:
            response.close()

    def _answers(self, node: str) -> bool:
        """Whether the node is there and well, so that what is asked of it may yet be answered."""
        try:
            record = self._connection.get(NODE.path(name=node), action=f"look at node {node}")
        except (NotFound, Gone):
            return False
        return node_capacities([record], [])[0].ready

    def events(self, resource: str, *, namespaces: Collection[str] = ()) -> list[ObservedEvent]:
        """From the namespaces that the resource has objects in."""
        seen = self.observe(resource, namespaces=namespaces)
        refs = {(item.ref.namespace, item.ref.name) for item in seen.objects}
        refs |= {(pod.namespace, pod.name) for pod in seen.pods}
        uids = frozenset([*(item.uid for item in seen.objects), *(pod.uid for pod in seen.pods)])
        records = [
            record
            for namespace in sorted({namespace for namespace, _ in refs})
            for record in self._events_in(namespace)
        ]
        return observed_events(records, uids=uids, names=frozenset(name for _, name in refs))

    def _events_in(self, namespace: str) -> list[dict[str, Any]]:
        try:
            page = self._connection.get(
                EVENT.path(namespace), query=(("limit", PAGE),), action=f"list events of {namespace}"
            )
        except (NotFound, Gone):
            return []
        return page.get("items") or []

    # --- Watching -------------------------------------------------------------------------------------------

    def watch(self, stop: threading.Event) -> Iterator[str]:
        """From about now on. One connection per kind, apart from those of other calls."""
        self._claim.hold()
        kinds = [POD, *(kind for kind in KINDS if kind.observed and not kind.shared)]
        kinds = [kind for kind in kinds if not kind.optional or self._has(kind)]
        return iter(Watching(self._watch_connection, kinds, selector=self._selector, stop=stop))

    @cached_property
    def _watch_connection(self) -> Connection:
        return Connection(open_client(self.settings, connections=len(KINDS) + 1))
