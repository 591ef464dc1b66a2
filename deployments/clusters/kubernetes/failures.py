"""What an answer other than success means: the API server's Status as one of our errors. Pure.

The code alone does not tell. A 403 is the account's lack of rights, a quota that is used up, or a policy that
refuses the object; a 500 is trouble, or a manifest that fits no schema. Wording as of Kubernetes 1.30 to 1.36
(staging/src/k8s.io/apiserver, admission plug-ins of kubernetes/kubernetes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterError,
    ClusterForbidden,
    ClusterNoCapacity,
    ClusterRejected,
    ClusterUnreachable,
)

_LACKS_RIGHTS = re.compile(
    r"is forbidden: User \"[^\"]*\" cannot |^forbidden: User |attempting to grant RBAC"
)
_EXCEEDS_QUOTA = re.compile(r"exceeded quota|insufficient quota|failed quota")
_ENDING_NAMESPACE = "because it is being terminated"
_FITS_NO_SCHEMA = re.compile(
    r"failed to create typed patch object \([^)]*\): (?:\S+: )*?\.?(?P<field>[\w.\[\]\"=\-/]+): "
)
_CONVERSION = ("failed to create typed", "failed to convert new object", "error decoding", "error converting")


def error_of(status: int, body: bytes, *, action: str, retry_after: str | None = None) -> ClusterError:
    """The error for an answer with an HTTP status of 400 or more.

    `action` says what was tried, for example "apply Deployment org-1/dep-1". `retry_after` is the header, in
    seconds.
    """
    answer = _status_object(body)
    message = str(answer.get("message") or body[:500].decode("utf-8", "replace").strip() or "no reason given")
    causes = _causes(answer)
    text = f"{action}: {message}"
    field = next((cause["field"] for cause in causes if cause.get("field")), "")
    if status == 401:
        return ClusterForbidden(f"{action}: the cluster does not accept our credentials: {message}")
    if status == 403:
        return _refusal(text, message, causes=causes, field=field)
    if status == 404:
        return _missing(text, answer)
    if status == 409:
        return ClusterConflict(text)
    if status == 429 or status >= 500:
        if any(word in message for word in _CONVERSION):
            found = _FITS_NO_SCHEMA.search(message)
            return ClusterRejected(text, field=found["field"] if found else "")
        return ClusterUnreachable(text, retry_after=_seconds(retry_after))
    if status == 422 and causes and all(cause.get("field") == "metadata.uid" for cause in causes):
        return ClusterConflict(text)  # another object has come under the name
    if _EXCEEDS_QUOTA.search(message):
        return ClusterNoCapacity(text)
    return ClusterRejected(text, field=field)


def _refusal(text: str, message: str, *, causes: list[Mapping[str, Any]], field: str) -> ClusterError:
    if _LACKS_RIGHTS.search(message):
        return ClusterForbidden(text)
    if _ENDING_NAMESPACE in message or any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return ClusterConflict(f"{text} (the namespace is being deleted)")
    if _EXCEEDS_QUOTA.search(message):
        return ClusterNoCapacity(text)
    # A limit range, Pod Security, a policy or a webhook: the object cannot be there as it is.
    return ClusterRejected(text, field=field)


def _missing(text: str, answer: Mapping[str, Any]) -> ClusterError:
    details = answer.get("details")
    kind = details.get("kind") if isinstance(details, Mapping) else None
    if kind == "namespaces":
        return ClusterConflict(text)  # it was there when it was made ready: somebody has deleted it since
    return ClusterRejected(f"{text} (does the cluster have this kind of object?)", field="kind")


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _causes(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return [cause for cause in causes or () if isinstance(cause, Mapping)]


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
