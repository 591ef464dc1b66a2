"""Every error of the API has one shape and says what to change."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient

from marketplace.rest.problems import Problem, flatten
from marketplace.rest.views import ActorView
from tests.people import Person

REQUEST_ID = {"X-Request-Id": "from-a-test"}

RAISED: dict[str, Exception] = {
    "fault": RuntimeError("secret inner detail"),
    "denied": PermissionDenied("no"),
    "throttled": exceptions.Throttled(wait=7),
    "invalid": DjangoValidationError({"name": ["too long"]}),
    "own": Problem(status=409, type="name-taken", title="Name taken", detail="Choose another.", near="b"),
}


class Raising(ActorView):
    def get(self, request: Request, name: str) -> Response:
        raise RAISED[name]


def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation("odd")


urlpatterns = [
    path("api/v1/raise/<name>/", Raising.as_view()),
    path("api/suspicious/", suspicious),
    path("", include("marketplace.config.urls")),
]
handler400 = "marketplace.rest.fallbacks.bad_request"
handler500 = "marketplace.rest.fallbacks.server_error"


def document(answer: Any) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == answer.status_code
    assert found.pop("request_id") == answer["X-Request-Id"]
    return found


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("get", "/api/v1/nowhere/", (404, "not-found")),
        ("post", "/api/v1/nowhere/", (404, "not-found")),
        ("get", "/api/v1/members/mem_unknown/", (404, "not-found")),
        ("get", "/api/v1/members/a%00b/", (404, "not-found")),
        ("get", "/api/v1/members/%ff%fe/", (404, "not-found")),
        ("delete", "/api/v1/organization/", (405, "method-not-allowed")),
        ("put", "/api/v1/members/mem_unknown/", (405, "method-not-allowed")),
        ("get", "/api/v1/members/?page_size=0", (400, "invalid-request")),
        ("get", "/api/v1/members/?page_size=1000", (400, "invalid-request")),
        ("get", "/api/v1/members/?page_size=ten", (400, "invalid-request")),
        ("get", "/api/v1/members/?cursor=nonsense", (400, "invalid-request")),
        ("get", "/api/v1/members/?cursor=cD0lMDA=", (400, "invalid-request")),
        ("get", "/api/v1/members/?role=chief", (400, "invalid-request")),
        ("get", "/api/v1/members/?role=%00", (400, "invalid-request")),
        ("get", "/api/v1/audit-events/?since=yesterday", (400, "invalid-request")),
        ("get", "/api/v1/audit-events/?action=%00", (400, "invalid-request")),
    ],
)
def test_it_answers_with_a_problem(alice: Person, method: str, url: str, expected: tuple[int, str]) -> None:
    answer = getattr(alice.api, method)(url)
    found = document(answer)
    assert (found["status"], found["type"]) == (expected[0], f"/problems/{expected[1]}")
    assert set(found) - {"errors"} == {"type", "title", "status", "detail"}


def test_it_tells_a_forgotten_slash_instead_of_redirecting(alice: Person) -> None:
    answer = alice.api.post("/api/v1/api-keys", {"name": "ci", "scopes": ["read"]})
    assert "Did you mean /api/v1/api-keys/ (with a slash at the end)?" in document(answer)["detail"]


def test_405_names_what_is_allowed(alice: Person) -> None:
    assert alice.api.delete("/api/v1/organization/")["Allow"] == "GET, PATCH, HEAD, OPTIONS"


def test_401_says_how_to_sign_in(anonymous: APIClient, db: None) -> None:
    answer = anonymous.get("/api/v1/me/")
    assert answer["WWW-Authenticate"] == 'Bearer realm="marketplace"'
    assert document(answer) == {
        "type": "/problems/not-authenticated",
        "title": "Not signed in",
        "status": 401,
        "detail": "Send an API key: 'Authorization: Bearer mk_…'.",
    }


@pytest.mark.parametrize("header", ["Bearer", "Basic abc", "Bearer a b", "mk_1"])
def test_401_for_a_header_in_another_form(db: None, header: str) -> None:
    answer = APIClient(headers={"Authorization": header}).get("/api/v1/me/")
    assert document(answer)["type"] == "/problems/malformed-authorization"


@pytest.mark.parametrize(
    ("body", "type", "detail"),
    [
        (b"{", "malformed-body", "at line 1, column 2"),
        (b'{"name": "a",\n "x": }', "malformed-body", "at line 2, column 7"),
        (b'{"name": "\xff"}', "invalid-utf-8", "byte 0xff at position 10"),
        (b'{"name": "a", "name": "b"}', "malformed-body", "'name' comes twice"),
        (b'{"name": NaN}', "malformed-body", "NaN is not a JSON number"),
        (b'{"name": 1e999}', "malformed-body", "1e999 is too large"),
        (b'{"name": ' + b"9" * 5000 + b"}", "malformed-body", "not usable"),
        (b'{"name": "\\ud800"}', "malformed-body", "half a character"),
        (b'{"name": "\\u0000"}', "malformed-body", "NUL"),
        (b"[" * 100_000, "malformed-body", "nested too deeply"),
        (b"[]", "invalid-request", "Expected a dictionary"),
        (b" ", "malformed-body", "at line 1, column 2"),
    ],
)
def test_it_points_to_what_is_wrong_with_a_body(alice: Person, body: bytes, type: str, detail: str) -> None:
    answer = alice.api.generic("PATCH", "/api/v1/organization/", body, content_type="application/json")
    found = document(answer)
    assert (found["status"], found["type"]) == (400, f"/problems/{type}")
    assert detail in found["detail"]
    alice.organization.refresh_from_db()
    assert alice.organization.name == "Acme"


def test_415_says_what_to_send(alice: Person) -> None:
    answer = alice.api.generic("PATCH", "/api/v1/organization/", b"<a/>", content_type="text/xml")
    assert document(answer) == {
        "type": "/problems/unsupported-media-type",
        "title": "Unsupported media type",
        "status": 415,
        "detail": 'Unsupported media type "text/xml" in request. Send application/json.',
    }


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("denied", {"type": "/problems/not-allowed", "title": "Not allowed", "status": 403, "detail": "no"}),
        (
            "invalid",
            {
                "type": "/problems/invalid-request",
                "title": "Invalid request",
                "status": 400,
                "detail": "name: too long",
                "errors": [{"field": "name", "message": "too long"}],
            },
        ),
        (
            "own",
            {
                "type": "/problems/name-taken",
                "title": "Name taken",
                "status": 409,
                "detail": "Choose another.",
                "near": "b",
            },
        ),
    ],
)
def test_it_translates_what_views_raise(alice: Person, name: str, expected: dict[str, Any]) -> None:
    assert document(alice.api.get(f"/api/v1/raise/{name}/")) == expected


@pytest.mark.urls(__name__)
def test_it_says_when_to_come_back(alice: Person) -> None:
    answer = alice.api.get("/api/v1/raise/throttled/")
    assert (answer.status_code, answer["Retry-After"]) == (429, "7")


@pytest.mark.urls(__name__)
def test_a_fault_of_ours_tells_an_id_and_nothing_else(
    alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = alice.api.get("/api/v1/raise/fault/", headers=REQUEST_ID)
    assert document(answer) == {
        "type": "/problems/internal-error",
        "title": "Something failed on our side",
        "status": 500,
        "detail": "It has been logged. Tell support the request id from-a-test; trying again may help.",
    }
    logged = [record for record in caplog.records if record.name == "marketplace.rest.problems"]
    assert logged[0].getMessage() == "Request from-a-test failed unexpectedly"
    assert "secret inner detail" in str(logged[0].exc_info)


@pytest.mark.urls(__name__)
def test_errors_of_django_itself_have_the_shape_too(db: None) -> None:
    assert document(Client().get("/api/suspicious/"))["type"] == "/problems/bad-request"


def test_pages_keep_plain_errors(db: None) -> None:
    answer = Client().get("/nowhere/")
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("given", ["a b", "a\nb", "x" * 101, "", "ключ"])
def test_it_replaces_a_request_id_that_is_not_safe(db: None, given: str) -> None:
    answer = APIClient().get("/api/v1/me/", headers={"X-Request-Id": given})
    assert re.fullmatch("req_[0-9a-z]{26}", answer["X-Request-Id"])


def test_it_keeps_a_request_id_that_is_safe(db: None) -> None:
    assert APIClient().get("/api/v1/me/", headers=REQUEST_ID)["X-Request-Id"] == "from-a-test"


def test_it_flattens_nested_errors() -> None:
    detail = {"messages": [{}, {"role": ["wrong", "bad"]}], "non_field_errors": ["both"], "n": {"0": ["x"]}}
    assert list(flatten(detail)) == [
        {"field": "messages.1.role", "message": "wrong"},
        {"field": "messages.1.role", "message": "bad"},
        {"field": "", "message": "both"},
        {"field": "n.0", "message": "x"},
    ]
