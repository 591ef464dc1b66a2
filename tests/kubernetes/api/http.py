"""HTTP around the server: addresses, parameters, bodies, streams and injected faults."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from tests.kubernetes.api import discovery, refusals, rendering
from tests.kubernetes.api.faults import Answer, Call, Cut, Fault, Faults, Hang, Slow
from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.logs import LogSource, read_log
from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.api.selectors import parse_fields, parse_labels
from tests.kubernetes.api.server import Deletion, Server, Write
from tests.kubernetes.api.store import Stored
from tests.kubernetes.api.watching import Question, events

SNAPSHOTS = 64
"""Lists being paged through at once; the oldest is forgotten and its next page answered with 410."""
WATCH_SECONDS = 1800.0
_PATCHES = {
    "application/apply-patch+yaml": "apply",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/json-patch+json": "json",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """What an address names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Front:
    """The HTTP side of one server."""

    def __init__(self, server: Server, faults: Faults, *, bookmark_seconds: float = 5.0) -> None:
        self.server = server
        self.faults = faults
        self.bookmark_seconds = bookmark_seconds
        self.log_source: LogSource | None = None
        self._snapshots: OrderedDict[str, tuple[int, list[Stored]]] = OrderedDict()
        self._pages = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=16 * 2**20, middlewares=[closing])
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            place = self._place(request.path)
            if place is None:
                return self._about(request)
            return await self._answer(request, place)
        except Refused as refused:
            return web.json_response(refused.status, status=refused.code, headers=refused.headers)

    async def _answer(self, request: web.Request, place: Place) -> web.StreamResponse:
        body = _body(await request.read())
        verb = _verb(request, place)
        call = Call(
            verb=verb,
            kind=place.kind.kind,
            namespace=place.namespace,
            name=place.name,
            subresource=place.subresource,
            agent=request.headers.get("User-Agent", ""),
        )
        faults = self.faults.strike(call)
        fault = next((item for item in faults if isinstance(item, Answer | Hang | Slow | Cut)), None)
        if fault is not None:
            await self._suffer(fault, lambda: self._do(request, place, verb, body))
        if verb == "watch":
            return await self._watch(request, place, faults)
        return self._do(request, place, verb, body)

    async def _suffer(self, fault: Fault, act: Callable[[], object]) -> None:
        if isinstance(fault, Slow):
            await asyncio.sleep(fault.seconds)
            return
        if getattr(fault, "done", False):
            act()
        if isinstance(fault, Answer):
            raise fault.refusal()
        if isinstance(fault, Hang):
            await asyncio.sleep(fault.seconds)
        raise _Closed

    # --- Addresses -----------------------------------------------------------------------------------------

    def _place(self, path: str) -> Place | None:
        words = [word for word in path.split("/") if word]
        if words[:1] == ["api"] and len(words) > 2:
            group, version, rest = "", words[1], words[2:]
        elif words[:1] == ["apis"] and len(words) > 3:
            group, version, rest = words[1], words[2], words[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.server.kinds.at(group, version, rest[0])
        if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
            raise Refused(404, "the server could not find the requested resource")
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if subresource and subresource not in kind.subresources and subresource != "finalize":
            raise Refused(404, "the server could not find the requested resource")
        return Place(kind=kind, namespace=namespace, name=name, subresource=subresource)

    def _about(self, request: web.Request) -> web.Response:
        words = [word for word in request.path.split("/") if word]
        kinds = self.server.kinds
        found: Any = None
        if words == ["version"]:
            found = discovery.version()
        elif words == ["api"]:
            found = discovery.core_versions()
        elif words == ["apis"]:
            found = discovery.groups(kinds)
        elif words == ["api", "v1"]:
            found = discovery.resources("", "v1", kinds)
        elif words[:1] == ["apis"] and len(words) == 3:
            found = discovery.resources(words[1], words[2], kinds)
        elif words[:1] == ["apis"] and len(words) == 2 and any(kind.group == words[1] for kind in kinds):
            found = discovery.group(words[1], kinds)
        elif words[:1] and words[0] in ("livez", "readyz", "healthz"):
            return web.Response(text="ok")
        if found is None:
            return web.Response(status=404, text="404 page not found\n")
        return web.json_response(found)

    # --- Verbs ---------------------------------------------------------------------------------------------

    def _do(self, request: web.Request, place: Place, verb: str, body: Any) -> web.Response:
        server, kind = self.server, place.kind
        form = rendering.form_of(request.headers.get("Accept", ""))
        write = _write(request, place)
        if verb == "log":
            return self._log(request, place)
        if verb == "list":
            return _json(self._list(request, place, form))
        if verb == "get":
            stored = self._get(place)
            return _json(_scale(stored) if place.subresource == "scale" else rendering.one(stored, form))
        if verb == "deletecollection":
            items, _ = self._selected(request, place)
            for item in items:
                server.delete(kind, item.namespace, item.name, _deletion(request, body))
            return _json(self._list(request, place, form))
        if verb == "delete":
            stored, gone = server.delete(kind, place.namespace, place.name, _deletion(request, body))
            return _deleted(stored, gone=gone)
        if not isinstance(
            body, list if request.content_type.startswith("application/json-patch") else Mapping
        ):
            raise refusals.bad_request("the body of the request must be an object")
        if isinstance(body, Mapping):
            _check_identity(kind, body, subresource=place.subresource)
        if verb == "create" and place.subresource in ("binding", "eviction"):
            return self._act_on_pod(place, body)
        if verb == "create":
            stored = server.create(kind, place.namespace, body, write)
            return _json(rendering.one(stored, form), status=201)
        if place.subresource == "scale":
            return _json(_scale(server.scale(self._get(place), body, write)))
        if verb == "update":
            return _json(rendering.one(server.replace(kind, place.namespace, place.name, body, write), form))
        content = request.content_type
        if content not in _PATCHES:
            known = ", ".join(_PATCHES)
            raise Refused(
                415,
                f"the body of the request was in an unknown format - accepted media types include: {known}",
            )
        if _PATCHES[content] == "apply":
            if not write.manager:
                cause = refusals.Cause(
                    "fieldManager", "Required value: is required for apply patch", "FieldValueRequired"
                )
                raise refusals.invalid("PatchOptions", "meta.k8s.io", "", [cause])
            stored, made = server.apply(kind, place.namespace, place.name, body, write)
            return _json(rendering.one(stored, form), status=201 if made else 200)
        stored = server.patch(kind, place.namespace, place.name, body, write, form=_PATCHES[content])
        return _json(rendering.one(stored, form))

    def _get(self, place: Place) -> Stored:
        return self.server.get(place.kind, place.namespace, place.name)

    def _act_on_pod(self, place: Place, body: Mapping[str, Any]) -> web.Response:
        pod = self._get(place)
        if place.subresource == "eviction":
            self.server.delete(pod.kind, pod.namespace, pod.name)
        else:
            self.server.bind(pod, node=body["target"]["name"])
        return _json(
            json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Success"}).encode(), status=201
        )

    def _selected(self, request: web.Request, place: Place) -> tuple[list[Stored], Callable[[Stored], bool]]:
        matches = _matcher(request, place)
        return [item for item in self.server.store.all(place.kind, place.namespace) if matches(item)], matches

    def _list(self, request: web.Request, place: Place, form: str) -> bytes:
        store, query = self.server.store, request.query
        token, limit = query.get("continue", ""), int(query.get("limit") or 0)
        if token:
            start, key = _read_token(token)
            if key not in self._snapshots or self._snapshots[key][0] < store.oldest:
                raise refusals.expired(
                    "The provided continue parameter is too old to display a consistent list result."
                )
            revision, items = self._snapshots[key]
        else:
            asked = query.get("resourceVersion") or "0"
            if int(asked) > store.revision:
                message = f"Timeout: Too large resource version: {asked}, current: {store.revision}"
                cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
                raise Refused(504, message, details={"causes": [cause], "retryAfterSeconds": 1})
            if query.get("resourceVersionMatch") == "Exact" and int(asked) < store.revision:
                raise refusals.expired(f"The resourceVersion for the provided list is too old: {asked}.")
            start, key = 0, ""
            revision, (items, _) = store.revision, self._selected(request, place)
        page = items[start : start + limit] if limit else items[start:]
        left = len(items) - start - len(page)
        rest = ""
        if left:
            if not key:
                self._pages += 1
                key = str(self._pages)
                self._snapshots[key] = (revision, items)
                while len(self._snapshots) > SNAPSHOTS:
                    self._snapshots.popitem(last=False)
            rest = _write_token(start + len(page), key)
        return rendering.many(place.kind, page, form, revision=revision, rest=rest, left=left)

    async def _watch(self, request: web.Request, place: Place, faults: list[Fault]) -> web.StreamResponse:
        query = request.query
        matches = _matcher(request, place)
        question = Question(
            kind=place.kind,
            matches=matches,
            form=rendering.form_of(request.headers.get("Accept", "")),
            revision=query.get("resourceVersion", ""),
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1", "True"),
            initial_events=query.get("sendInitialEvents") in ("true", "1", "True"),
            seconds=float(query.get("timeoutSeconds") or WATCH_SECONDS),
            bookmark_seconds=self.bookmark_seconds,
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        async for piece in events(self.server.store, question, faults):
            await response.write(piece)
        return response

    def _log(self, request: web.Request, place: Place) -> web.Response:
        text = read_log(self.log_source, self._get(place), request.query)
        return web.Response(body=text, content_type="text/plain")


class _Closed(Exception):
    """The connection is to be closed without an answer."""


@web.middleware
async def closing(request: web.Request, handler: Any) -> web.StreamResponse:
    """Closes the connection of a request that a fault has struck."""
    try:
        answer: web.StreamResponse = await handler(request)
    except _Closed:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    return answer


def _verb(request: web.Request, place: Place) -> str:
    if request.method == "GET":
        if place.subresource == "log":
            return "log"
        if request.query.get("watch") in ("true", "1", "True"):
            return "watch"
        return "get" if place.name else "list"
    if request.method == "DELETE":
        return "delete" if place.name else "deletecollection"
    if request.method == "PATCH":
        return "apply" if _PATCHES.get(request.content_type) == "apply" else "patch"
    verbs = {"POST": "create", "PUT": "update"}
    if request.method not in verbs:
        raise Refused(405, "the server does not allow this method on the requested resource")
    return verbs[request.method]


def _matcher(request: web.Request, place: Place) -> Callable[[Stored], bool]:
    labels = request.query.get("labelSelector", "")
    fields = request.query.get("fieldSelector", "")
    if place.name:
        fields = f"{fields},metadata.name={place.name}" if fields else f"metadata.name={place.name}"
    by_label = parse_labels(labels) if labels else None
    by_field = parse_fields(fields, kind=place.kind.kind) if fields else None
    namespace = place.namespace

    def matches(item: Stored) -> bool:
        return (
            (not namespace or item.namespace == namespace)
            and (by_label is None or by_label(item.labels))
            and (by_field is None or by_field(item.value))
        )

    return matches


def _write(request: web.Request, place: Place) -> Write:
    query = request.query
    agent = request.headers.get("User-Agent", "").partition("/")[0]
    is_apply = _PATCHES.get(request.content_type) == "apply"
    return Write(
        manager=query.get("fieldManager") or ("" if is_apply else agent or "unknown"),
        force=query.get("force") in ("true", "1", "True"),
        strict=query.get("fieldValidation") == "Strict",
        dry_run=query.get("dryRun") == "All",
        subresource=place.subresource,
    )


def _deletion(request: web.Request, body: Any) -> Deletion:
    options = body if isinstance(body, Mapping) else {}
    query = request.query
    grace = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    propagation = options.get("propagationPolicy") or query.get("propagationPolicy") or ""
    if options.get("orphanDependents") is not None:
        propagation = "Orphan" if options["orphanDependents"] else "Background"
    if propagation not in ("", "Foreground", "Background", "Orphan"):
        cause = refusals.Cause(
            "propagationPolicy", f'Unsupported value: "{propagation}"', "FieldValueNotSupported"
        )
        raise refusals.invalid("DeleteOptions", "meta.k8s.io", "", [cause])
    preconditions = options.get("preconditions") or {}
    return Deletion(
        grace_seconds=None if grace is None else int(grace),
        propagation=propagation,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
    )


def _deleted(stored: Stored, *, gone: bool) -> web.Response:
    kind = stored.kind
    if not gone or kind.kind in ("Pod", "Namespace"):
        return _json(stored.full_body)
    details = refusals.details(stored.name, kind.group, kind.plural, uid=stored.uid)
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return _json(json.dumps(status).encode())


def _check_identity(kind: Kind, body: Mapping[str, Any], *, subresource: str) -> None:
    if subresource in ("binding", "eviction", "scale"):
        return
    given = (body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind)
    if given != (kind.api_version, kind.kind):
        message = (
            f"the API version in the data ({', '.join(given)}) does not match the expected API version "
            f"({kind.api_version}, {kind.kind})"
        )
        raise refusals.bad_request(message)


def _body(raw: bytes) -> Any:
    if not raw:
        return None
    if raw.startswith(b"k8s\0"):
        raise Refused(415, "the stand-in reads JSON and YAML, and no protocol buffers")
    try:
        return json.loads(raw) if raw.lstrip()[:1] in (b"{", b"[", b'"') else yaml.safe_load(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise refusals.bad_request(f"the body of the request cannot be read: {error}") from error


def _scale(stored: Stored) -> bytes:
    """What the scale subresource answers."""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return json.dumps(
        {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {name: stored.metadata[name] for name in names},
            "spec": {"replicas": stored.value["spec"].get("replicas", 0)},
            "status": {"replicas": (stored.value.get("status") or {}).get("replicas", 0)},
        }
    ).encode()


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _write_token(start: int, key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, key]).encode()).decode()


def _read_token(token: str) -> tuple[int, str]:
    try:
        start, key = json.loads(base64.urlsafe_b64decode(token))
        return int(start), str(key)
    except ValueError as error:
        raise refusals.bad_request(f"invalid continue token: continue key is not valid: {error}") from error
