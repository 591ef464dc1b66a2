"""The portal's pages about the organization."""

from __future__ import annotations

import re

from django.test import Client

from marketplace.accounts.models import ApiKey, Membership, Role
from tests.people import Person, api_with_secret


def test_strangers_are_sent_to_sign_in(db: None) -> None:
    for page in ("/api-keys/", "/members/"):
        assert Client().get(page)["Location"] == f"/sign-in/?next={page}"


def test_a_new_key_is_shown_once_and_works(alice: Person) -> None:
    form = {"name": "nightly", "scopes": ["read", "infer"], "lifetime": "30"}
    answer = alice.browser.post("/api-keys/", form)
    assert answer["Cache-Control"] == "no-store"
    (secret,) = set(re.findall(r"mk_[a-z0-9]{8}_[a-z0-9]{40}", answer.content.decode()))
    assert api_with_secret(secret).get("/api/v1/me/").json()["scopes"] == ["infer", "read"]
    again = alice.browser.get("/api-keys/").content.decode()
    assert secret not in again
    assert secret[:11] in again


def test_a_key_is_revoked(alice: Person) -> None:
    key, _ = alice.key()
    answer = alice.browser.post(f"/api-keys/{key.public_id}/revoke/", follow=True)
    assert "is revoked" in answer.content.decode()
    assert ApiKey.objects.get().revoked_at is not None


def test_another_organizations_key_is_not_there(alice: Person, charlie: Person) -> None:
    key, _ = alice.key()
    assert key.prefix not in charlie.browser.get("/api-keys/").content.decode()
    assert charlie.browser.post(f"/api-keys/{key.public_id}/revoke/").status_code == 404
    member = f"/members/{alice.membership.public_id}/"
    assert charlie.browser.post(member, {"role": "viewer"}).status_code == 404
    assert charlie.browser.post("/choose-organization/", {"organization": alice.organization.public_id})
    assert "organization" not in charlie.browser.session
    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_viewer_sees_and_changes_nothing(alice: Person, bob: Person) -> None:
    page = bob.browser.get("/members/").content.decode()
    assert "alice@example.com" in page
    assert "Add member" not in page
    for url in ("/members/", "/api-keys/", f"/members/{bob.membership.public_id}/"):
        assert bob.browser.post(url, {"role": "owner", "email": "x@example.com"}).status_code == 403
    bob.membership.refresh_from_db()
    assert bob.membership.role == Role.VIEWER


def test_an_owner_adds_changes_and_removes_a_member(alice: Person, charlie: Person) -> None:
    form = {"email": "charlie@example.com", "role": "viewer"}
    assert "is a member now" in alice.browser.post("/members/", form, follow=True).content.decode()
    again = alice.browser.post("/members/", form)
    assert (again.status_code, "is a member of Acme" in again.content.decode()) == (400, True)
    added = Membership.objects.get(organization=alice.organization, user=charlie.user)
    url = f"/members/{added.public_id}/"
    assert "is Billing now" in alice.browser.post(url, {"role": "billing"}, follow=True).content.decode()
    assert alice.browser.post(url, {"role": "chief"}).status_code == 400
    assert "no longer" in alice.browser.post(url, {"remove": "yes"}, follow=True).content.decode()
    mine = f"/members/{alice.membership.public_id}/"
    assert "only owner" in alice.browser.post(mine, {"remove": "yes"}, follow=True).content.decode()
    assert list(Membership.objects.filter(organization=alice.organization)) == [alice.membership]


def test_a_member_of_two_switches(alice: Person, charlie: Person) -> None:
    Membership.objects.create(organization=charlie.organization, user=alice.user, role=Role.VIEWER)
    assert "Members of Acme" in alice.browser.get("/members/").content.decode()
    alice.browser.post("/choose-organization/", {"organization": charlie.organization.public_id})
    page = alice.browser.get("/members/").content.decode()
    assert "Members of Umbrella" in page
    assert "Add member" not in page


def test_a_member_of_none_is_told_whom_to_ask(alice: Person) -> None:
    alice.membership.delete()
    answer = alice.browser.get("/members/")
    assert (answer.status_code, "Ask an owner of yours" in answer.content.decode()) == (403, True)
