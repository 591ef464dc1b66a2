"""Everything that the API server can say no with, in Kubernetes' words: status codes, reasons, causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """A request that is not done; `status` is the body of the answer."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": REASONS.get(code, "") if reason is None else reason,
            "details": dict(details) if details is not None else {},
            "code": code,
        }
        self.status = {key: value for key, value in self.status.items() if value or key == "metadata"}


@dataclass(frozen=True)
class Cause:
    """One field that is wrong."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    @classmethod
    def required(cls, field: str) -> Cause:
        return cls(field, "Required value", "FieldValueRequired")

    def as_json(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def details(name: str, group: str, kind: str, **more: Any) -> dict[str, Any]:
    found = {"name": name, "group": group, "kind": kind, **more}
    return {key: value for key, value in found.items() if value}


def qualified(name: str, group: str) -> str:
    """deployments.apps, pods."""
    return f"{name}.{group}" if group else name


def not_found(plural: str, group: str, name: str) -> Refused:
    return Refused(
        404, f'{qualified(plural, group)} "{name}" not found', details=details(name, group, plural)
    )


def already_exists(plural: str, group: str, name: str) -> Refused:
    message = f'{qualified(plural, group)} "{name}" already exists'
    return Refused(409, message, reason="AlreadyExists", details=details(name, group, plural))


def modified(plural: str, group: str, name: str, why: str = "") -> Refused:
    """The optimistic lock: somebody was faster."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return Refused(409, message, details=details(name, group, plural))


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> Refused:
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {text}'
    found = details(name, group, kind, causes=[cause.as_json() for cause in causes])
    return Refused(422, message, details=found)


def forbidden(plural: str, group: str, name: str, why: str, **more: Any) -> Refused:
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return Refused(403, message, details=details(name, group, plural, **more))


def bad_request(message: str) -> Refused:
    return Refused(400, message)


def expired(message: str) -> Refused:
    return Refused(410, message)
