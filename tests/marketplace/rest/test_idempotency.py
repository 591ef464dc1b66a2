"""A POST sent twice takes effect once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connections
from django.http import HttpResponse
from django.urls import include, path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import ApiKey, AuditEvent, Organization, Scope
from marketplace.rest import idempotency
from marketplace.rest.models import IdempotencyRecord
from marketplace.rest.views import ActorView
from tests.people import Person

KEY = {"Idempotency-Key": "one"}
WISH = {"name": "ci", "scopes": ["read"]}
KEYS = "/api/v1/api-keys/"


class Effect(ActorView):
    """Makes an organization, then does as told."""

    required_scopes: ClassVar = {"POST": Scope.READ}
    entered = threading.Event()
    may_end = threading.Event()

    def post(self, request: Request, then: str) -> HttpResponse:
        made = Organization.objects.create(slug=f"made-{Organization.objects.count()}", name="Made")
        if then == "fail":
            raise RuntimeError("after the effect")
        if then == "refuse":
            return Response({"no": True}, status=409)
        if then == "wait":
            self.entered.set()
            assert self.may_end.wait(20)
        headers = {"Location": f"/made/{made.slug}/"}
        return Response({"slug": made.slug, "n": [1.5, "é"]}, status=201, headers=headers)


urlpatterns = [
    path("api/v1/effect/<then>/", Effect.as_view()),
    path("", include("marketplace.config.urls")),
]
effects = pytest.mark.urls(__name__)


def made() -> int:
    return Organization.objects.filter(name="Made").count()


@effects
def test_it_answers_again_without_doing_again(alice: Person) -> None:
    first = alice.api.post("/api/v1/effect/pass/", WISH, headers=KEY)
    second = alice.api.post("/api/v1/effect/pass/", dict(reversed(WISH.items())), headers=KEY)
    assert (first.status_code, first.content, first["Location"]) == (
        second.status_code,
        second.content,
        second["Location"],
    )
    assert ("Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (False, "true")
    assert made() == 1


def test_it_does_not_keep_what_is_shown_once(alice: Person) -> None:
    first = alice.api.post(KEYS, WISH, headers=KEY).json()
    second = alice.api.post(KEYS, WISH, headers=KEY).json()
    assert second == first | {"secret": None}
    assert first["secret"] not in IdempotencyRecord.objects.get().body
    assert ApiKey.objects.filter(name="ci").count() == 1


def test_it_refuses_the_key_with_another_body(alice: Person) -> None:
    alice.api.post(KEYS, WISH, headers=KEY)
    answer = alice.api.post(KEYS, WISH | {"name": "cd"}, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert not ApiKey.objects.filter(name="cd").exists()


def test_the_same_key_of_another_organization_or_address_is_another(alice: Person, charlie: Person) -> None:
    for person in (alice, charlie):
        assert person.api.post(KEYS, WISH, headers=KEY).status_code == 201
    answer = alice.api.post("/api/v1/members/", {"email": "x@example.com", "role": "viewer"}, headers=KEY)
    assert answer.status_code == 400
    assert ApiKey.objects.filter(name="ci").count() == 2


def test_a_right_is_checked_before_an_answer_is_repeated(alice: Person, bob: Person) -> None:
    assert alice.api.post(KEYS, WISH, headers=KEY).status_code == 201
    assert bob.api.post(KEYS, WISH, headers=KEY).status_code == 403


@effects
@pytest.mark.parametrize(("then", "status"), [("fail", 500), ("refuse", 409)])
def test_what_did_not_succeed_leaves_nothing_and_is_tried_afresh(
    alice: Person, then: str, status: int
) -> None:
    for _ in range(2):
        answer = alice.api.post(f"/api/v1/effect/{then}/", WISH, headers=KEY)
        assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (status, None)
    assert (made(), IdempotencyRecord.objects.count()) == (0, 0)


@effects
def test_a_crash_before_the_record_undoes_the_effect(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def crash(**_: Any) -> None:
            raise RuntimeError("power cut")

        patch.setattr(IdempotencyRecord.objects, "create", crash)
        assert alice.api.post("/api/v1/effect/pass/", WISH, headers=KEY).status_code == 500
    assert made() == 0
    assert alice.api.post("/api/v1/effect/pass/", WISH, headers=KEY).status_code == 201
    assert made() == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "ключ"])
def test_it_refuses_a_key_that_is_not_usable(alice: Person, key: str) -> None:
    answer = alice.api.post(KEYS, WISH, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency-key-invalid")


def test_it_forgets_after_a_day_and_cleans_up(alice: Person) -> None:
    alice.api.post(KEYS, WISH, headers=KEY)
    alice.api.post(KEYS, WISH, headers={"Idempotency-Key": "two"})
    IdempotencyRecord.objects.update(created_at=timezone.now() - idempotency.KEPT_FOR - timedelta(seconds=1))
    answer = alice.api.post(KEYS, WISH, headers=KEY)
    assert "Idempotency-Replayed" not in answer
    assert [record.key for record in IdempotencyRecord.objects.all()] == ["one"]
    assert AuditEvent.objects.filter(action="api_key.create").count() == 3


@pytest.fixture
def waiting_effect() -> Iterator[None]:
    Effect.entered.clear()
    Effect.may_end.clear()
    yield
    Effect.may_end.set()


@effects
@pytest.mark.django_db(transaction=True)
def test_a_second_attempt_during_the_first_is_told_to_wait(alice: Person, waiting_effect: None) -> None:
    answers: list[Any] = []
    api = alice.api

    def first() -> None:
        answers.append(api.post("/api/v1/effect/wait/", WISH, headers=KEY))
        connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    assert Effect.entered.wait(20)
    second = alice.api_with().post("/api/v1/effect/wait/", WISH, headers=KEY)
    Effect.may_end.set()
    thread.join()
    assert (second.status_code, second["Retry-After"]) == (409, "1")
    assert second.json()["type"] == "/problems/idempotency-key-in-use"
    third = api.post("/api/v1/effect/wait/", WISH, headers=KEY)
    assert (answers[0].status_code, third.content) == (201, answers[0].content)
    assert made() == 1
