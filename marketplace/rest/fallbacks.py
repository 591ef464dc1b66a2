"""Django's own error views: problem details below /api/, a plain page elsewhere."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from marketplace.rest.problems import Problem, not_found, request_id_of, respond, unexpected

API = "/api/"


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(API)


@csrf_exempt
def unknown_route(request: HttpRequest) -> HttpResponse:
    """Every address below /api/ that no other route takes.

    Being a route itself, it also keeps Django from answering a missing slash with a redirect, on which
    clients repeat a POST as a GET.
    """
    return respond(not_found(f"There is no address {request.path}.{_hint(request.path)}"), request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.bad_request(request, exception)
    return respond(Problem(detail="The request could not be understood."), request)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.permission_denied(request, exception)
    return respond(Problem(status=403, type="not-allowed", title="Not allowed"), request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.page_not_found(request, exception)
    return respond(not_found(), request)


def server_error(request: HttpRequest) -> HttpResponse:
    if not is_api(request):
        return defaults.server_error(request)
    return respond(unexpected(request_id_of(request)), request)


def _hint(path: str) -> str:
    if path.endswith("/"):
        return " All addresses: /api/docs/."
    try:
        match = resolve(f"{path}/")
    except Resolver404:
        match = None
    known = match is not None and match.func is not unknown_route
    return f" Did you mean {path}/ (with a slash at the end)?" if known else " All addresses: /api/docs/."
