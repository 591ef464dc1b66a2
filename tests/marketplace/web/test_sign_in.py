"""Signing in and out of the portal."""

from __future__ import annotations

import uuid

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from tests.people import PASSWORD, Person


@pytest.fixture(autouse=True)
def _fresh_counts() -> None:
    cache.clear()


def test_it_signs_in_and_out(alice: Person) -> None:
    browser = Client(enforce_csrf_checks=True)
    page = browser.get("/sign-in/?next=/api/docs/")
    token = browser.cookies["csrftoken"].value
    assert "Sign in" in page.content.decode()
    form = {"username": "alice@example.com", "password": PASSWORD, "next": "/api/docs/"}
    answer = browser.post("/sign-in/", form | {"csrfmiddlewaretoken": token})
    assert (answer.status_code, answer["Location"]) == (302, "/api/docs/")
    assert browser.session["_auth_user_id"] == str(alice.user.pk)
    token = browser.cookies["csrftoken"].value
    assert browser.post("/sign-out/", {"csrfmiddlewaretoken": token})["Location"] == "/sign-in/"
    assert "_auth_user_id" not in browser.session


def test_it_does_not_send_people_to_another_site(alice: Person) -> None:
    form = {"username": "alice@example.com", "password": PASSWORD, "next": "https://evil.example/"}
    assert Client().post("/sign-in/", form)["Location"] == "/"


def test_it_says_nothing_about_which_part_was_wrong(alice: Person) -> None:
    def refusal(email: str) -> str:
        page = Client().post("/sign-in/", {"username": email, "password": "wrong"}).content.decode()
        return page[page.index('role="alert"') :][:200]

    assert refusal("alice@example.com") == refusal("nobody@example.com")


def test_it_slows_down_guessing_for_one_account_and_no_other(alice: Person, bob: Person) -> None:
    wrong = {"username": "alice@example.com", "password": "wrong"}
    answers = [Client().post("/sign-in/", wrong) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert 0 < int(answers[-1]["Retry-After"]) <= 60
    right = {"username": "alice@example.com", "password": PASSWORD}
    assert Client().post("/sign-in/", right).status_code == 429
    other = {"username": "bob@example.com", "password": PASSWORD}
    assert Client().post("/sign-in/", other).status_code == 302


def test_it_lets_people_in_when_the_cache_is_gone(alice: Person, settings: Settings) -> None:
    cache_settings = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"unix:///tmp/{uuid.uuid4()}.sock",
    }
    settings.CACHES = {"default": cache_settings}
    form = {"username": "alice@example.com", "password": PASSWORD}
    assert Client().post("/sign-in/", form).status_code == 302


def test_pages_allow_files_of_this_site_only(db: None) -> None:
    policy = Client().get("/sign-in/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
