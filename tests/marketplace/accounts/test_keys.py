"""API keys: made once, stored as hashes, refused when they should be."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest

from marketplace.accounts.keys import KeyRefused, authenticate_key, issue_key, touch
from marketplace.accounts.models import ApiKey, Organization, Scope
from tests.people import Person

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_it_stores_the_hash_and_shows_the_prefix(acme: Organization) -> None:
    key, secret = issue_key(organization=acme, name="ci", scopes=[Scope.READ, Scope.DEPLOY, Scope.READ])
    assert re.fullmatch(r"mk_[a-z0-9]{8}_[a-z0-9]{40}", secret)
    stored = ApiKey.objects.values("name", "prefix", "hash", "scopes", "expires_at").get(pk=key.pk)
    assert stored == {
        "name": "ci",
        "prefix": secret[:11],
        "hash": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": ["deploy", "read"],
        "expires_at": None,
    }


def test_it_refuses_a_scope_that_does_not_exist(acme: Organization) -> None:
    with pytest.raises(ValueError, match="no such scope: fly; there are read, deploy"):
        issue_key(organization=acme, name="ci", scopes=["read", "fly"])


def test_it_accepts_a_key_until_the_second_of_its_expiry(acme: Organization) -> None:
    key, secret = issue_key(organization=acme, name="ci", scopes=["read"], expires_at=NOON)
    assert authenticate_key(secret, now=NOON - timedelta(seconds=1)) == key
    with pytest.raises(KeyRefused, match=r"expired at 2026-05-01T12:00:00\+00:00") as refused:
        authenticate_key(secret, now=NOON)
    assert refused.value.reason == "expired"


def test_it_refuses_a_revoked_key(acme: Organization) -> None:
    key, secret = issue_key(organization=acme, name="ci", scopes=["read"])
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=NOON)
    with pytest.raises(KeyRefused) as refused:
        authenticate_key(secret, now=NOON)
    assert refused.value.reason == "revoked"


def test_it_refuses_the_key_of_a_deactivated_person(alice: Person) -> None:
    _, secret = alice.key()
    alice.user.is_active = False
    alice.user.save()
    with pytest.raises(KeyRefused) as refused:
        authenticate_key(secret, now=NOON)
    assert refused.value.reason == "revoked"


@pytest.mark.parametrize("secret", ["", "mk_", "mk_aaaaaaaa_" + "b" * 40, "\udcff", "ключ"])
def test_it_refuses_what_is_no_key(db: None, secret: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        authenticate_key(secret, now=NOON)
    assert refused.value.reason == "unknown"


def test_it_notes_the_use_at_most_once_a_minute(acme: Organization) -> None:
    key, _ = issue_key(organization=acme, name="ci", scopes=["read"])
    seen = []
    for second in (0, 30, 59, 60, 61):
        # A fresh row each time, as each request has its own.
        touch(ApiKey.objects.get(pk=key.pk), now=NOON + timedelta(seconds=second))
        seen.append(ApiKey.objects.get(pk=key.pk).last_used_at)
    assert seen == [NOON, NOON, NOON, NOON + timedelta(seconds=60), NOON + timedelta(seconds=60)]
