"""The first people of an installation."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.utils import timezone

from marketplace.accounts.bootstrap import Credentials, bootstrap
from marketplace.accounts.keys import KeyRefused, authenticate_key
from marketplace.accounts.models import ApiKey, Membership, Scope, User


def test_it_makes_people_who_can_sign_in_and_a_key_that_may_do_all(db: None) -> None:
    made = bootstrap()
    assert authenticate(username="admin@example.com", password=made.admin_password).is_staff
    assert not authenticate(username="demo@example.com", password=made.user_password).is_staff
    key = authenticate_key(made.api_key or "", now=timezone.now())
    assert (key.organization.slug, set(key.scopes)) == ("demo", set(Scope.values))
    assert [str(row) for row in Membership.objects.all()] == ["demo@example.com is owner of Demo"]


def test_it_leaves_alone_what_is_there(db: None) -> None:
    first = bootstrap()
    again = bootstrap()
    assert again == Credentials(
        admin_email="admin@example.com",
        admin_password=None,
        user_email="demo@example.com",
        user_password=None,
        organization="demo",
        organization_id=first.organization_id,
        api_key=None,
    )
    assert authenticate(username="demo@example.com", password=first.user_password)
    assert (User.objects.count(), ApiKey.objects.count()) == (2, 1)


def test_it_replaces_every_secret_when_told_to(db: None) -> None:
    first = bootstrap()
    second = bootstrap(reset=True)
    assert authenticate(username="demo@example.com", password=first.user_password) is None
    assert authenticate(username="demo@example.com", password=second.user_password)
    with pytest.raises(KeyRefused):
        authenticate_key(first.api_key or "", now=timezone.now())
    assert authenticate_key(second.api_key or "", now=timezone.now()).organization.slug == "demo"


def test_the_command_prints_json(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("bootstrap", organization="acme")
    printed = json.loads(capsys.readouterr().out)
    assert printed["organization"] == "acme"
    assert printed["api_key"].startswith("mk_")
