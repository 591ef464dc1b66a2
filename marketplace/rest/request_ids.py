"""Gives each request an id: in the answer's header, in every error, and in the log.

A caller's own X-Request-Id is kept, so that one id follows a request through several systems; one that could
break a log line or a header is replaced.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse

from marketplace.ids import make_public_id

HEADER = "X-Request-Id"
USABLE = re.compile(r"[A-Za-z0-9._:-]{1,100}")
current: ContextVar[str] = ContextVar("request_id", default="-")


class RequestIdMiddleware:
    """Must stand first, so that the answers of the other middleware carry the id too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = usable_or_new(request.headers.get(HEADER, ""))
        request.request_id = request_id  # type: ignore[attr-defined]
        token = current.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            current.reset(token)
        response.headers[HEADER] = request_id
        return response


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to log records; "-" outside of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Django logs refused requests when the middleware have ended, and hands over the request instead.
        of_record = getattr(getattr(record, "request", None), "request_id", None)
        record.request_id = of_record or current.get()
        return True


def usable_or_new(given: str) -> str:
    """The caller's id when it is safe to repeat, else a new one."""
    return given if USABLE.fullmatch(given) else make_public_id("req")
