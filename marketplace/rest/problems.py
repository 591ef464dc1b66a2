"""Every error of the REST API in one shape: problem details (RFC 9457), `application/problem+json`.

    {"type": "/problems/name-taken", "title": "Name taken", "status": 409, "detail": "…",
     "request_id": "req_…", "errors": [{"field": "name", "message": "…"}]}

`type` is for programs and stays the same; `title` and `detail` are for people. A view raises `Problem`;
whatever Django or REST framework raise by themselves is translated here. What nobody foresaw is a 500 that
tells only the request id, under which the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404, HttpRequest, JsonResponse, RawPostDataException
from django.http.request import UnreadablePostError
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(exceptions.APIException):
    """An error with everything that its answer needs.

    status: HTTP status. type: short name in kebab-case; the answer has it as `/problems/<type>`.
    errors: one {"field", "message"} for each wrong field, the field as a path such as `messages.0.role`.
    extra: further members of the document, in JSON values.
    """

    def __init__(
        self,
        *,
        status: int = 400,
        type: str = "bad-request",
        title: str = "",
        detail: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.status_code = status
        self.type = type
        self.title = title or HTTPStatus(status).phrase
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})
        self.extra = extra
        super().__init__(detail or self.title)

    def document(self, *, request_id: str = "") -> dict[str, Any]:
        """The body of the answer."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.type}",
            "title": self.title,
            "status": self.status_code,
            "detail": str(self.detail),
        }
        if request_id:
            document["request_id"] = request_id
        if self.errors:
            document["errors"] = self.errors
        return document | self.extra


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's hook: the answer to whatever a view raised."""
    request = context.get("request")
    request_id = request_id_of(request)
    problem = problem_from(exc, view=context.get("view"))
    if problem is None:
        log.exception("Request %s failed unexpectedly", request_id, exc_info=exc)
        problem = unexpected(request_id)
    return Response(
        problem.document(request_id=request_id),
        status=problem.status_code,
        headers=problem.headers,
        content_type=MEDIA_TYPE,
    )


def respond(problem: Problem, request: HttpRequest | None) -> JsonResponse:
    """The same answer outside of REST framework: middleware and Django's own error views."""
    return JsonResponse(
        problem.document(request_id=request_id_of(request)),
        status=problem.status_code,
        headers=problem.headers,
        content_type=MEDIA_TYPE,
    )


def unexpected(request_id: str) -> Problem:
    """Our fault: nothing of the cause leaves the house but the id to ask for."""
    return Problem(
        status=500,
        type="internal-error",
        title="Something failed on our side",
        detail=f"It has been logged. Tell support the request id {request_id}; trying again may help.",
    )


def request_id_of(request: Request | HttpRequest | None) -> str:
    """The id that `RequestIdMiddleware` gave the request; empty outside of one."""
    plain = request._request if isinstance(request, Request) else request
    return str(getattr(plain, "request_id", ""))


def problem_from(exc: Exception, *, view: Any = None) -> Problem | None:
    """What an exception means to a customer; None when it is a fault of ours."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, Http404 | exceptions.NotFound):
        return not_found(str(getattr(exc, "detail", "")) if isinstance(exc, exceptions.NotFound) else "")
    if isinstance(exc, PermissionDenied):
        return Problem(status=403, type="not-allowed", title="Not allowed", detail=str(exc))
    if isinstance(exc, DjangoValidationError):
        return invalid(list(flatten(exceptions.ValidationError(_messages_of(exc)).detail)))
    if isinstance(exc, exceptions.ValidationError):
        return invalid(list(flatten(exc.detail)))
    if isinstance(exc, UnreadablePostError | RawPostDataException):
        return Problem(type="unreadable-body", title="Unreadable body", detail="The body ended too early.")
    if isinstance(exc, exceptions.UnsupportedMediaType):
        return _unsupported(exc, view)
    if isinstance(exc, exceptions.APIException):
        return _from_rest_framework(exc)
    return None


def invalid(errors: Sequence[Mapping[str, str]]) -> Problem:
    """400 with each wrong field. The detail repeats the first, for people who read no further."""
    first = errors[0] if errors else {"field": "", "message": "The request is not valid."}
    detail = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
    if len(errors) > 1:
        detail = f"{detail} (and {len(errors) - 1} more)"
    return Problem(type="invalid-request", title="Invalid request", detail=detail, errors=errors)


def not_found(detail: str = "") -> Problem:
    """404, the same for an id that never was and for another organization's."""
    generic = ("", "Not found.")
    return Problem(
        status=404,
        type="not-found",
        title="Not found",
        detail="There is nothing here, or it is not yours." if detail in generic else detail,
    )


def flatten(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    """REST framework's nested error detail as a list: {"a": [{}, {"b": ["wrong"]}]} is field `a.1.b`."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from flatten(inner, ".".join(part for part in (path, own) if part))
    elif isinstance(detail, list | tuple):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list | tuple)
            yield from flatten(inner, f"{path}.{index}".lstrip(".") if nested else path)
    else:
        yield {"field": path, "message": str(detail)}


def _messages_of(exc: DjangoValidationError) -> Any:
    if not hasattr(exc, "error_dict"):
        return exc.messages
    return {("" if name == "__all__" else name): messages for name, messages in exc.message_dict.items()}


def _unsupported(exc: exceptions.UnsupportedMediaType, view: Any) -> Problem:
    taken = [str(parser.media_type) for parser in getattr(view, "parser_classes", ())]
    return Problem(
        status=415,
        type="unsupported-media-type",
        title="Unsupported media type",
        detail=f"{exc.detail} Send {' or '.join(taken) or 'application/json'}.",
    )


TYPES: Mapping[type[exceptions.APIException], tuple[str, str]] = {
    exceptions.ParseError: ("malformed-body", "Malformed body"),
    exceptions.NotAuthenticated: ("not-authenticated", "Not signed in"),
    exceptions.AuthenticationFailed: ("authentication-failed", "Not signed in"),
    exceptions.PermissionDenied: ("not-allowed", "Not allowed"),
    exceptions.MethodNotAllowed: ("method-not-allowed", "Method not allowed"),
    exceptions.NotAcceptable: ("not-acceptable", "Not acceptable"),
    exceptions.Throttled: ("too-many-requests", "Too many requests"),
}


def _from_rest_framework(exc: exceptions.APIException) -> Problem:
    type, title = TYPES.get(exc.__class__, ("bad-request", ""))
    headers: dict[str, str] = {}
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = str(challenge)
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(wait))
    detail = exc.detail if isinstance(exc.detail, str) else title
    if isinstance(exc, exceptions.NotAuthenticated):
        detail = "Send an API key: 'Authorization: Bearer mk_…'."
    return Problem(status=exc.status_code, type=type, title=title, detail=str(detail), headers=headers)
