"""The verbs of the API server, without HTTP: create, apply, patch, replace, delete, read and list.

Controllers of the stand-in call them directly; `tests.kubernetes.api.http` carries them over the wire.
Everything runs in one thread, and every verb is one step that nothing can come between.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.kubernetes.api import refusals
from tests.kubernetes.api.admission import Admission
from tests.kubernetes.api.defaults import with_defaults
from tests.kubernetes.api.kinds import Kind, Kinds, custom_kinds
from tests.kubernetes.api.ownership import (
    Owner,
    after_apply,
    after_update,
    apply_conflicts,
    merge,
    owned_paths,
    owners_of,
    without,
    written,
)
from tests.kubernetes.api.patching import PatchFailed, json_patch, merge_patch, strategic_merge_patch
from tests.kubernetes.api.refusals import Cause, Refused
from tests.kubernetes.api.schema import problems
from tests.kubernetes.api.store import Store, Stored
from tests.kubernetes.api.validation import problems_of, problems_of_change

Value = dict[str, Any]

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_SET = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
_GRACEFUL = frozenset({"Pod"})


@dataclass(frozen=True, kw_only=True)
class Write:
    """What a writing request says beside its object."""

    manager: str = "unknown"
    force: bool = False
    strict: bool = False
    """Unknown fields are refused and not dropped."""
    dry_run: bool = False
    subresource: str = ""
    tracked: bool = True
    """Who owns which field is noted. Not for what controllers make by the thousand and nobody applies."""


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Options of a delete request."""

    grace_seconds: int | None = None
    propagation: str = ""
    """Foreground, Background or Orphan; empty = as the kind has it."""
    uid: str = ""
    resource_version: str = ""


@dataclass
class Server:
    """One API server. `seed` decides its uids, addresses and name suffixes."""

    seed: int = 0
    history: int = 20_000
    clock_skew: timedelta = timedelta()
    """How far the server's clock is ahead of this machine's."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.kinds = Kinds()
        self.store = Store(history=self.history)
        self.dice = random.Random(self.seed)
        self.admission = Admission(self)
        for name in ("default", "kube-system", "kube-node-lease"):
            self.create(self.kinds["Namespace"], "", {"metadata": {"name": name}})

    # --- Small things --------------------------------------------------------------------------------------

    def time(self) -> datetime:
        """The server's clock."""
        return self.now() + self.clock_skew

    def stamp(self) -> str:
        """The server's clock as objects carry it: whole seconds."""
        return self.time().strftime("%Y-%m-%dT%H:%M:%SZ")

    def new_uid(self) -> str:
        return str(uuid.UUID(int=self.dice.getrandbits(128), version=4))

    def suffix(self, length: int = 5) -> str:
        return "".join(self.dice.choices(SUFFIX_LETTERS, k=length))

    def set_status(self, live: Stored, status: Mapping[str, Any], *, manager: str) -> Stored:
        """What a controller of the cluster says of an object. Does nothing when it said so before."""
        if dict(status) == (live.value.get("status") or {}):
            return live
        tracked = live.kind.kind not in ("Pod", "ReplicaSet")
        write = Write(manager=manager, subresource="status", tracked=tracked)
        return self._changed(live, {**live.value, "status": dict(status)}, None, write=write)

    def set_metadata(self, live: Stored, **changes: Any) -> Stored:
        """Changes fields of the metadata (None removes) as a controller does, past what users may not."""
        metadata = {**live.metadata, **changes}
        metadata = {name: value for name, value in metadata.items() if value is not None and value != []}
        return self._commit(live.kind, {**live.value, "metadata": metadata}, live.owners, write=Write())

    # --- Reading -------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        """Raises Refused (404)."""
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise refusals.not_found(kind.plural, kind.group, name)
        return found

    # --- Writing -------------------------------------------------------------------------------------------

    def create(
        self, kind: Kind, namespace: str, value: Mapping[str, Any], write: Write | None = None
    ) -> Stored:
        """Raises Refused: 404 without its namespace, 409 when it exists, 403 and 422 when it may not be."""
        write = write or Write()
        value = self._parsed(kind, value, write)
        metadata = dict(value.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + self.suffix()
        metadata = self._placed(kind, namespace, metadata)
        if not metadata.get("name"):
            raise refusals.invalid(kind.kind, kind.group, "", [Cause.required("metadata.name")])
        self.admission.check_namespace(kind, namespace, metadata["name"])
        if metadata.get("resourceVersion"):
            raise refusals.bad_request("resourceVersion should not be set on objects to be created")
        owner = self._owner(kind, write, "Update", frozenset())
        value = {**value, "metadata": metadata}
        if "status" in kind.subresources:
            value.pop("status", None)
        stored = self._added(kind, value, (), write=write)
        owners = after_update(kind.schema, (), {}, stored.value, by=owner) if write.tracked else ()
        return self._commit(kind, stored.value, owners, write=write)

    def apply(
        self, kind: Kind, namespace: str, name: str, value: Mapping[str, Any], write: Write
    ) -> tuple[Stored, bool]:
        """Server-side apply. Returns the object and whether it was made.

        Raises Refused: 409 with a cause a field that another manager owns, 500 for what is not in the schema.
        """
        value = self._typed(kind, name, value)
        live = self.store.get(kind, namespace, name)
        metadata = value["metadata"]
        self._check_precondition(kind, name, metadata, live)
        paths = owned_paths(kind.schema, value, subresource=write.subresource)
        by = self._owner(kind, write, "Apply", paths)
        owners = live.owners if live else ()
        mine = next((owner for owner in owners if owner.key == by.key), None)
        base: Mapping[str, Any] = live.value if live else {}
        wanted = _only(value, paths_of_status=write.subresource == "status")
        others = [owner for owner in owners if owner.key != by.key]
        conflicts = apply_conflicts(kind.schema, base, wanted, paths, others)
        if conflicts and not write.force:
            raise _apply_conflict(conflicts)
        merged = merge(kind.schema, dict(base), wanted)
        dropped = (mine.paths if mine else frozenset()) - paths
        kept = {path for owner in others for path in owner.paths} | paths
        if dropped:
            merged = without(kind.schema, merged, dropped, kept)
        taken = frozenset(conflict.path for conflict in conflicts)
        owners = after_apply(owners, by=by, force=write.force, taken=taken)
        if live is None:
            self.admission.check_namespace(kind, namespace, name)
            merged["metadata"] = self._placed(kind, namespace, {**merged["metadata"], "name": name})
            stored = self._added(kind, merged, owners, write=write)
            return self._commit(kind, stored.value, owners, write=write), True
        return self._changed(live, merged, owners, write=write), False

    def replace(
        self, kind: Kind, namespace: str, name: str, value: Mapping[str, Any], write: Write | None = None
    ) -> Stored:
        """Raises Refused: 404, 409 when resourceVersion is an old one."""
        write = write or Write()
        value = self._parsed(kind, value, write)
        live = self.get(kind, namespace, name)
        self._check_precondition(kind, name, value.get("metadata") or {}, live)
        return self._update(live, value, write)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        write: Write | None = None,
        *,
        form: str = "merge",
    ) -> Stored:
        """A merge patch, a strategic one (`strategic`) or a JSON patch (`json`). Raises Refused."""
        write = write or Write()
        live = self.get(kind, namespace, name)
        if form == "json":
            try:
                patched = json_patch(json.loads(live.full_body), patch)
            except PatchFailed as failed:
                raise Refused(
                    422, f"the server rejected our request due to an error in our request: {failed}"
                ) from failed
        else:
            self._check_precondition(kind, name, patch.get("metadata") or {}, live)
            patched = (
                strategic_merge_patch(kind.schema, live.value, patch)
                if form == "strategic"
                else merge_patch(live.value, patch)
            )
        return self._update(live, self._parsed(kind, patched, write), write)

    def scale(self, live: Stored, scale: Mapping[str, Any], write: Write) -> Stored:
        """Sets the replicas as the scale subresource does."""
        self._check_precondition(live.kind, live.name, scale.get("metadata") or {}, live)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        value = {**live.value, "spec": {**live.value["spec"], "replicas": replicas}}
        return self._changed(live, value, None, write=write)

    def _update(self, live: Stored, value: Value, write: Write) -> Stored:
        base = live.value
        if write.subresource == "status":
            value = {**base, "status": value.get("status") or {}, "metadata": base["metadata"]}
        elif "status" in live.kind.subresources:
            value = {**value, "status": base.get("status") or {}}
        entries = (value.get("metadata") or {}).get("managedFields")
        if entries is not None and not write.subresource:
            live = Stored(live.kind, live.value, owners=owners_of(entries), revision=live.revision)
        return self._changed(live, value, None, write=write)

    # --- From a wanted value to a stored one ---------------------------------------------------------------

    def _parsed(self, kind: Kind, value: Mapping[str, Any], write: Write) -> Value:
        """The body of a create or update: types must be right; unknown fields are refused or dropped."""
        body = {name: inner for name, inner in value.items() if name not in ("apiVersion", "kind")}
        found = list(problems(kind.schema, body))
        wrong = [item for item in found if item[1] != "field not declared in schema"]
        about = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
        if wrong:
            path, what = wrong[0]
            if what.startswith("quantities"):
                raise refusals.bad_request(f"{about}: {what}")
            raise refusals.bad_request(f"{about}: json: {path.removeprefix('.')}: {what}")
        unknown = [path.removeprefix(".") for path, _ in found]
        if unknown and write.strict:
            texts = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise refusals.bad_request(f"{about}: strict decoding error: {texts}")
        return dict(_pruned(kind, body)) if unknown else body

    def _typed(self, kind: Kind, name: str, value: Mapping[str, Any]) -> Value:
        """The body of an apply: exactly as the schema has it."""
        body = _without_nulls(
            {key: inner for key, inner in value.items() if key not in ("apiVersion", "kind")}
        )
        found = [f"{path}: {what}" for path, what in problems(kind.schema, body)]
        if found:
            given = body.get("metadata") or {}
            place = f"{given.get('namespace', '')}/{name}; {kind.api_version}, Kind={kind.kind}"
            text = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {item}" for item in found)
            message = f"failed to create typed patch object ({place}): {text}"
            raise Refused(500, message, reason="")
        body["metadata"] = dict(body.get("metadata") or {})
        if body["metadata"].get("managedFields"):
            raise refusals.bad_request("metadata.managedFields must be nil")
        given = body["metadata"].get("name", name)
        if given != name:
            raise refusals.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({name})"
            )
        return dict(body)

    def _placed(self, kind: Kind, namespace: str, metadata: Value) -> Value:
        given = metadata.get("namespace")
        if given and given != namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        placed = {name: value for name, value in metadata.items() if name != "managedFields"}
        return {**placed, "namespace": namespace} if kind.namespaced else placed

    def _check_precondition(
        self, kind: Kind, name: str, metadata: Mapping[str, Any], live: Stored | None
    ) -> None:
        uid, revision = metadata.get("uid"), metadata.get("resourceVersion")
        if live is None:
            if uid:
                why = (
                    f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                )
                raise refusals.modified(kind.plural, kind.group, name, why)
            if revision:
                raise refusals.not_found(kind.plural, kind.group, name)
            return
        if revision and revision != live.metadata["resourceVersion"]:
            raise refusals.modified(kind.plural, kind.group, name)
        if uid and uid != live.uid:
            cause = Cause("metadata.uid", f'Invalid value: "{uid}": field is immutable')
            raise refusals.invalid(kind.kind, kind.group, name, [cause])

    def _added(self, kind: Kind, value: Value, owners: tuple[Owner, ...], *, write: Write) -> Stored:
        metadata = {key: inner for key, inner in value["metadata"].items() if key not in _SERVER_SET} | {
            "uid": self.new_uid(),
            "creationTimestamp": self.stamp(),
        }
        if kind.counts_generations:
            metadata["generation"] = 1
        if self.store.get(kind, metadata.get("namespace", ""), metadata["name"]):
            raise refusals.already_exists(kind.plural, kind.group, metadata["name"])
        value = with_defaults(kind.kind, {**value, "metadata": metadata})
        value = self.admission.mutated(kind, value)
        self._validate(kind, value)
        self.admission.check("CREATE", kind, value)
        return Stored(kind, value, owners=owners, revision=0)

    def _changed(
        self, live: Stored, value: Value, owners: tuple[Owner, ...] | None, *, write: Write
    ) -> Stored:
        """Stores the new value of an object, or nothing if it is the old one."""
        kind = live.kind
        kept = {name: live.metadata[name] for name in _KEPT if name in live.metadata}
        metadata = {name: inner for name, inner in value["metadata"].items() if name not in _NOT_KEPT}
        metadata = {name: inner for name, inner in metadata.items() if inner not in ({}, [], None)}
        if live.is_deleting and not set(metadata.get("finalizers") or ()) <= set(
            live.metadata.get("finalizers") or ()
        ):
            why = "no new finalizers can be added if the object is being deleted"
            cause = Cause("metadata.finalizers", f"Forbidden: {why}", "FieldValueForbidden")
            raise refusals.invalid(kind.kind, kind.group, live.name, [cause])
        value = with_defaults(kind.kind, {**value, "metadata": {**metadata, **kept}})
        if kind.counts_generations and _spec_of(value) != _spec_of(live.value):
            value["metadata"]["generation"] = live.metadata.get("generation", 0) + 1
        same = value == live.value
        known = self.get(kind, *live.key).owners  # a client may have sent others
        if owners is None and not write.tracked:
            owners = live.owners
        elif owners is None:
            by = self._owner(kind, write, "Update", frozenset())
            owners = after_update(kind.schema, live.owners, live.value, value, by=by)
        if same and {owner.key: owner.paths for owner in owners} == {o.key: o.paths for o in known}:
            return live
        if not same:
            if write.subresource != "status":
                self._validate(kind, value, old=live)
            self.admission.check("UPDATE", kind, value)
        return self._commit(kind, value, owners, write=write)

    def _validate(self, kind: Kind, value: Mapping[str, Any], *, old: Stored | None = None) -> None:
        causes = problems_of(kind, value)
        if old is not None:
            causes += problems_of_change(kind, old.value, value)
        if causes:
            name = value["metadata"]["name"]
            raise refusals.invalid(kind.kind, kind.group, name, causes)

    def _commit(
        self, kind: Kind, value: Mapping[str, Any], owners: tuple[Owner, ...], *, write: Write
    ) -> Stored:
        if write.dry_run:
            return Stored(kind, value, owners=owners, revision=self.store.revision)
        metadata = value["metadata"]
        if metadata.get("deletionTimestamp") and not self._is_held(kind, value):
            live = self.get(kind, metadata.get("namespace", ""), metadata["name"])
            if not metadata.get("finalizers") and live.metadata.get("finalizers"):
                return self._removed(self.store.put(kind, value, owners))
        stored = self.store.put(kind, value, owners)
        self._settle(stored)
        return stored

    def _owner(self, kind: Kind, write: Write, operation: str, paths: frozenset[Any]) -> Owner:
        return Owner(
            manager=write.manager,
            operation=operation,
            subresource=write.subresource,
            api_version=kind.api_version,
            time=self.stamp(),
            paths=paths,
        )

    def bind(self, pod: Stored, *, node: str) -> Stored:
        """Puts a pod on a node, as the binding subresource does. Raises Refused (409) when it is on one."""
        if pod.value["spec"].get("nodeName"):
            why = f'pod {pod.name} is already assigned to node "{pod.value["spec"]["nodeName"]}"'
            raise refusals.modified("pods", "", pod.name, why)
        status = pod.value.get("status") or {}
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.stamp()}
        others = [item for item in status.get("conditions") or () if item["type"] != "PodScheduled"]
        value = {
            **pod.value,
            "spec": {**pod.value["spec"], "nodeName": node},
            "status": {**status, "conditions": [*others, scheduled]},
        }
        return self.store.put(pod.kind, value, pod.owners)

    # --- Deleting ------------------------------------------------------------------------------------------

    def delete(
        self, kind: Kind, namespace: str, name: str, options: Deletion | None = None
    ) -> tuple[Stored, bool]:
        """Asks for the object to go. Returns it, and whether it is gone already.

        Raises Refused: 404, 409 when it is not the object that is meant.
        """
        options = options or Deletion()
        live = self.get(kind, namespace, name)
        if options.uid and options.uid != live.uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({live.uid})."
            )
            raise refusals.modified(
                kind.plural, kind.group, name, f"Precondition failed: UID in precondition: {why}"
            )
        version = live.metadata["resourceVersion"]
        if options.resource_version and options.resource_version != version:
            raise refusals.modified(
                kind.plural, kind.group, name, "Precondition failed: ResourceVersion in precondition"
            )
        self.admission.check("DELETE", kind, dict(live.value))
        grace = self._grace(live, options)
        finalizers = _finalizers(live, options.propagation)
        if kind.kind == "Namespace":
            return self._terminate_namespace(live), False
        if live.is_deleting:
            return self._hurried(live, grace, finalizers)
        if not grace and not finalizers:
            if kind.kind == "Pod":
                metadata = {
                    **live.metadata,
                    "deletionTimestamp": self.stamp(),
                    "deletionGracePeriodSeconds": 0,
                }
                live = Stored(kind, {**live.value, "metadata": metadata}, owners=live.owners, revision=0)
            return self._removed(live), True
        deadline = (self.time() + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {
            **live.metadata,
            "deletionTimestamp": deadline,
            "deletionGracePeriodSeconds": grace,
            "finalizers": finalizers,
        }
        metadata = {key: value for key, value in metadata.items() if value != []}
        if kind.counts_generations:
            metadata["generation"] = live.metadata.get("generation", 0) + 1
        return self.store.put(kind, {**live.value, "metadata": metadata}, live.owners), False

    def _hurried(self, live: Stored, grace: int, finalizers: list[str]) -> tuple[Stored, bool]:
        """A delete request for what is being deleted: it can only make the grace period shorter."""
        before = live.metadata.get("deletionGracePeriodSeconds", 0)
        if grace == 0 and not finalizers:
            return self._removed(live), True
        if grace >= before and finalizers == list(live.metadata.get("finalizers") or ()):
            return live, False
        started = datetime.fromisoformat(live.metadata["deletionTimestamp"]) - timedelta(seconds=before)
        deadline = (started + timedelta(seconds=min(grace, before))).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {**live.metadata, "deletionTimestamp": deadline}
        metadata |= {"deletionGracePeriodSeconds": min(grace, before), "finalizers": finalizers}
        metadata = {key: value for key, value in metadata.items() if value != []}
        return self.store.put(live.kind, {**live.value, "metadata": metadata}, live.owners), False

    def _grace(self, live: Stored, options: Deletion) -> int:
        if live.kind.kind not in _GRACEFUL:
            return 0
        spec, status = live.value["spec"], live.value.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        if options.grace_seconds is not None:
            return options.grace_seconds
        return int(spec.get("terminationGracePeriodSeconds", 30))

    def _terminate_namespace(self, live: Stored) -> Stored:
        if live.is_deleting:
            return live
        metadata = {**live.metadata, "deletionTimestamp": self.stamp()}
        value = {**live.value, "metadata": metadata, "status": {"phase": "Terminating"}}
        return self.store.put(live.kind, value, live.owners)

    def finalize_namespace(self, live: Stored) -> Stored:
        """The namespace is empty: it goes, unless somebody's finalizer holds it."""
        value = {**live.value, "spec": {**live.value["spec"], "finalizers": []}}
        if live.metadata.get("finalizers"):
            return self.store.put(live.kind, value, live.owners)
        return self._removed(live)

    def _is_held(self, kind: Kind, value: Mapping[str, Any]) -> bool:
        metadata = value["metadata"]
        if metadata.get("finalizers"):
            return True
        if kind.kind == "Namespace":
            return bool((value.get("spec") or {}).get("finalizers"))
        return bool(metadata.get("deletionGracePeriodSeconds"))

    def _removed(self, live: Stored) -> Stored:
        last = self.store.remove(live)
        if last.kind.kind == "CustomResourceDefinition":
            for kind in custom_kinds(last.value):
                for item in self.store.all(kind):
                    self.store.remove(item)
                self.kinds.remove(kind)
        self.admission.settle()
        return last

    def _settle(self, stored: Stored) -> None:
        """What the server itself does after a write."""
        if stored.kind.kind == "CustomResourceDefinition" and not (stored.value.get("status") or {}):
            for kind in custom_kinds(stored.value):
                if self.kinds.at(kind.group, kind.version, kind.plural) is None:
                    self.kinds.add(kind)
            conditions = [
                {"type": name, "status": "True", "reason": reason, "lastTransitionTime": self.stamp()}
                for name, reason in (
                    ("NamesAccepted", "NoConflicts"),
                    ("Established", "InitialNamesAccepted"),
                )
            ]
            names = stored.value["spec"]["names"]
            status = {"conditions": conditions, "acceptedNames": names, "storedVersions": []}
            self.store.put(stored.kind, {**stored.value, "status": status}, stored.owners)
        self.admission.settle()


_KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "generateName", "resourceVersion") + (
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_NOT_KEPT = frozenset({"managedFields", "selfLink"})


def _spec_of(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name not in ("metadata", "status")}


def _only(value: Mapping[str, Any], *, paths_of_status: bool) -> Value:
    """The part of an applied body that the address stands for."""
    metadata = {
        name: inner
        for name, inner in value["metadata"].items()
        if name not in (*_SERVER_SET, "managedFields", "deletionGracePeriodSeconds")
    }
    if paths_of_status:
        return {"status": value.get("status") or {}}
    return {name: inner for name, inner in value.items() if name != "status"} | {"metadata": metadata}


def _pruned(kind: Kind, value: Any, node: Any = None) -> Any:
    """The value without fields that the schema does not have."""
    node = node or kind.schema
    if isinstance(value, Mapping) and node.kind in ("struct", "map"):
        return {
            name: _pruned(kind, inner, child)
            for name, inner in value.items()
            if (child := node.child(name)) is not None
        }
    if isinstance(value, list) and node.kind in ("keyed", "set", "list"):
        return [_pruned(kind, item, node.items) for item in value]
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _finalizers(live: Stored, propagation: str) -> list[str]:
    """The finalizers of the object once it is asked to go. Without a word, what was asked before holds."""
    before = list(live.metadata.get("finalizers") or ())
    if not propagation:
        if any(name in _PROPAGATION.values() for name in before):
            return before
        propagation = _default_propagation(live.kind)
    kept = [name for name in live.metadata.get("finalizers") or () if name not in _PROPAGATION.values()]
    asked = _PROPAGATION.get(propagation)
    return [*kept, asked] if asked else kept


_PROPAGATION = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def _default_propagation(kind: Kind) -> str:
    """A Job deleted without a word leaves its pods behind, for the sake of old clients."""
    return "Orphan" if (kind.group, kind.kind) == ("batch", "Job") else "Background"


def _apply_conflict(conflicts: list[Any]) -> Refused:
    causes = []
    for conflict in conflicts:
        owner = conflict.owner
        using = f" using {owner.api_version}" if owner.operation == "Update" else ""
        using = f' with subresource "{owner.subresource}"{using}' if owner.subresource else using
        at = f" at {owner.time}" if owner.operation == "Update" else ""
        message = f'conflict with "{owner.manager}"{using}{at}'
        causes.append({"reason": "FieldManagerConflict", "message": message, "field": written(conflict.path)})
    number = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    texts = "\n".join(f"- {cause['message']}: {cause['field']}" for cause in causes)
    if len(causes) == 1:
        texts = f"{causes[0]['message']}: {causes[0]['field']}"
    sep = " " if len(causes) == 1 else "\n"
    return Refused(409, f"Apply failed with {number}:{sep}{texts}", details={"causes": causes})
