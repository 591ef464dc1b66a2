"""The log of a container, as the API server would fetch it from the kubelet of the pod's node."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tests.kubernetes.api import refusals
from tests.kubernetes.api.store import Stored


class LogSource(Protocol):
    """Where logs come from: the kubelet stand-in."""

    def __call__(self, uid: str, container: str, *, previous: bool) -> list[tuple[datetime, bytes]] | None:
        """The lines of a container and when each was written; None when it has not begun."""
        ...


def read_log(source: LogSource | None, pod: Stored, query: Mapping[str, str]) -> bytes:
    """The text that the log endpoint answers. Raises Refused (400, 404)."""
    names = [
        item["name"]
        for part in ("containers", "initContainers")
        for item in pod.value["spec"].get(part) or ()
    ]
    name = query.get("container") or ""
    if not name:
        if len(pod.value["spec"]["containers"]) > 1:
            choices = " ".join(names)
            raise refusals.bad_request(
                f"a container name must be specified for pod {pod.name}, choose one of: [{choices}]"
            )
        name = names[0]
    if name not in names:
        raise refusals.bad_request(f"container {name} is not valid for pod {pod.name}")
    if not pod.value["spec"].get("nodeName"):
        return b""
    previous = query.get("previous") in ("true", "1")
    lines = source(pod.uid, name, previous=previous) if source else None
    if lines is None:
        if previous:
            why = f'previous terminated container "{name}" in pod "{pod.name}" not found'
            raise refusals.bad_request(why)
        why = _waiting(pod.value, name) or "ContainerCreating"
        raise refusals.bad_request(f'container "{name}" in pod "{pod.name}" is waiting to start: {why}')
    if since := query.get("sinceTime"):
        lines = [line for line in lines if line[0] >= datetime.fromisoformat(since)]
    if tail := query.get("tailLines"):
        lines = lines[-int(tail) :] if int(tail) else []
    if query.get("timestamps") in ("true", "1"):
        text = b"".join(at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode() + line for at, line in lines)
    else:
        text = b"".join(line for _, line in lines)
    limit = query.get("limitBytes")
    return text[: int(limit)] if limit else text


def _waiting(value: Mapping[str, Any], name: str) -> str:
    status = value.get("status") or {}
    for part in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(part) or ():
            if item["name"] == name:
                return str(((item.get("state") or {}).get("waiting") or {}).get("reason") or "")
    return ""
