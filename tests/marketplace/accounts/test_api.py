"""REST of the organization: what each answer says, and what it changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from marketplace.accounts import members
from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Role, User
from tests.people import PASSWORD, Person, add_person, api_with_secret


def trail(person: Person) -> list[tuple[str, str, dict[str, Any]]]:
    """(action, who, changes) of the organization's audit events, oldest first."""
    events = AuditEvent.objects.filter(organization=person.organization).order_by("id")
    return [(event.action, event.actor_user or event.actor_key, event.changes) for event in events]


def test_me_says_who_the_key_is(alice: Person) -> None:
    key, secret = alice.key(scopes=["read", "deploy"])
    me = api_with_secret(secret).get("/api/v1/me/").json()
    assert me["api_key"]["id"] == key.public_id
    assert (me["user"], me["scopes"]) == (None, ["deploy", "read"])
    assert [row["slug"] for row in (me["organization"], *me["organizations"])] == ["acme", "acme"]


def test_a_session_works_for_the_organization_it_names(alice: Person, charlie: Person) -> None:
    Membership.objects.create(organization=charlie.organization, user=alice.user, role=Role.VIEWER)
    api = APIClient()
    api.force_login(alice.user)
    first = api.get("/api/v1/me/").json()
    assert (first["organization"]["slug"], "admin" in first["scopes"]) == ("acme", True)
    for name in ("umbrella", charlie.organization.public_id):
        second = api.get("/api/v1/me/", headers={"X-Organization": name}).json()
        assert (second["organization"]["slug"], second["scopes"]) == ("umbrella", ["read"])


@pytest.mark.parametrize("named", ["umbrella", "nowhere", "a\x00b"])
def test_a_session_cannot_name_another_organization(alice: Person, charlie: Person, named: str) -> None:
    api = APIClient()
    api.force_login(alice.user)
    answer = api.get("/api/v1/me/", headers={"X-Organization": named})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/not-a-member")


def test_a_key_cannot_name_another_organization(alice: Person, charlie: Person) -> None:
    answer = alice.api.get("/api/v1/organization/", headers={"X-Organization": "umbrella"})
    assert answer.status_code == 403


def test_a_session_needs_the_csrf_token_to_change(alice: Person) -> None:
    api = APIClient(enforce_csrf_checks=True)
    assert api.login(username="alice@example.com", password=PASSWORD)
    answer = api.patch("/api/v1/organization/", {"name": "New"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/csrf-failed")


def test_it_renames_the_organization_and_notes_it(alice: Person) -> None:
    answer = alice.api.patch("/api/v1/organization/", {"name": "Acme Labs"})
    assert (answer.status_code, answer.json()["name"], answer.json()["slug"]) == (200, "Acme Labs", "acme")
    key = ApiKey.objects.get(organization=alice.organization)
    assert trail(alice) == [("organization.rename", key.public_id, {"name": ["Acme", "Acme Labs"]})]


def test_it_refuses_fields_that_are_misspelt_or_fixed(alice: Person) -> None:
    answer = alice.api.patch("/api/v1/organization/", {"nam": "New", "slug": "new"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"] == [
        {"field": "nam", "message": "There is no such field; did you mean 'name'?"},
        {"field": "slug", "message": "This field cannot be set."},
        {"field": "name", "message": "This field is required."},
    ]
    assert trail(alice) == []


def test_it_adds_a_member_by_email(alice: Person, charlie: Person) -> None:
    User.objects.create_user("dora@example.com", PASSWORD)
    answer = alice.api.post("/api/v1/members/", {"email": "Dora@Example.com", "role": "developer"})
    assert answer.status_code == 201
    member = answer.json()
    assert (member["email"], member["role"]) == ("dora@example.com", "developer")
    listed = alice.api.get("/api/v1/members/").json()["items"]
    assert [(row["email"], row["role"]) for row in listed] == [
        ("dora@example.com", "developer"),
        ("alice@example.com", "owner"),
    ]
    assert [event[0] for event in trail(alice)] == ["member.add"]


def test_it_says_why_somebody_cannot_be_added(alice: Person, bob: Person) -> None:
    again = alice.api.post("/api/v1/members/", {"email": "bob@example.com", "role": "viewer"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/already-a-member")
    nobody = alice.api.post("/api/v1/members/", {"email": "nobody@example.com", "role": "chief"})
    assert nobody.json()["errors"] == [{"field": "role", "message": '"chief" is not a valid choice.'}]
    nobody = alice.api.post("/api/v1/members/", {"email": "nobody@example.com", "role": "viewer"})
    assert (nobody.status_code, nobody.json()["errors"][0]["field"]) == (400, "email")
    assert trail(alice) == []


def test_the_last_owner_stays(alice: Person, bob: Person) -> None:
    member = f"/api/v1/members/{alice.membership.public_id}/"
    for answer in (alice.api.delete(member), alice.api.patch(member, {"role": "viewer"})):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/last-owner")
    assert (
        alice.api.patch(f"/api/v1/members/{bob.membership.public_id}/", {"role": "owner"}).status_code == 200
    )
    assert alice.api.delete(member).status_code == 204
    assert list(Membership.objects.filter(organization=bob.organization)) == [bob.membership]


def test_a_member_who_was_removed_meanwhile_gets_no_role(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_role = members.change_role

    def change_after_removal(*, membership: Membership, **values: Any) -> Membership:
        Membership.objects.filter(pk=membership.pk).delete()
        return change_role(membership=membership, **values)

    monkeypatch.setattr(members, "change_role", change_after_removal)
    answer = alice.api.patch(f"/api/v1/members/{bob.membership.public_id}/", {"role": "owner"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert trail(alice) == []


def test_the_keys_of_a_member_leave_with_them(alice: Person) -> None:
    dora = add_person("dora", organization=alice.organization, role=Role.DEVELOPER)
    assert dora.api.get("/api/v1/me/").status_code == 200
    assert alice.api.delete(f"/api/v1/members/{dora.membership.public_id}/").status_code == 204
    answer = dora.api.get("/api/v1/me/")
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/key-revoked")


def test_a_smaller_role_ends_only_the_keys_it_does_not_cover(alice: Person) -> None:
    dora = add_person("dora", organization=alice.organization, role=Role.DEVELOPER)
    reading, deploying = dora.api_with(scopes=["read"]), dora.api_with(scopes=["read", "deploy"])
    alice.api.patch(f"/api/v1/members/{dora.membership.public_id}/", {"role": "viewer"})
    assert [api.get("/api/v1/me/").status_code for api in (reading, deploying)] == [200, 401]


def test_nobody_hands_out_more_than_they_have(alice: Person, bob: Person) -> None:
    api = alice.api_with(scopes=["admin", "read"])
    made = api.post("/api/v1/api-keys/", {"name": "wide", "scopes": ["read", "deploy"]})
    member = f"/api/v1/members/{bob.membership.public_id}/"
    for answer in (made, api.patch(member, {"role": "developer"})):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/wider-than-own")
    assert trail(alice) == []


def test_it_shows_the_secret_once(alice: Person) -> None:
    ends = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    wish = {"name": "ci", "scopes": ["read"], "expires_at": ends.isoformat()}
    made = alice.api.post("/api/v1/api-keys/", wish)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert api_with_secret(secret).get("/api/v1/me/").json()["scopes"] == ["read"]
    again = alice.api.get(f"/api/v1/api-keys/{made.json()['id']}/").json()
    assert again == {name: value for name, value in made.json().items() if name != "secret"} | {
        "last_used_at": again["last_used_at"]
    }
    assert again["state"] == "active"
    assert secret not in str(trail(alice))


def test_it_revokes_a_key(alice: Person) -> None:
    made = alice.api.post("/api/v1/api-keys/", {"name": "ci", "scopes": ["read"]}).json()
    assert alice.api.delete(f"/api/v1/api-keys/{made['id']}/").status_code == 204
    assert alice.api.delete(f"/api/v1/api-keys/{made['id']}/").status_code == 204
    assert api_with_secret(made["secret"]).get("/api/v1/me/").status_code == 401
    assert alice.api.get(f"/api/v1/api-keys/{made['id']}/").json()["state"] == "revoked"
    assert [event[0] for event in trail(alice)] == ["api_key.create", "api_key.revoke"]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "x" * 81, "scopes": ["read"]}, "name"),
        ({"name": "ci", "scopes": []}, "scopes"),
        ({"name": "ci", "scopes": ["fly"]}, "scopes.0"),
        ({"name": "ci", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "ci", "scopes": ["read"], "expires_at": "tomorrow"}, "expires_at"),
    ],
)
def test_it_refuses_a_key_that_makes_no_sense(alice: Person, wish: dict[str, Any], field: str) -> None:
    answer = alice.api.post("/api/v1/api-keys/", wish)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [field])


def test_audit_events_are_listed_and_filtered(alice: Person) -> None:
    alice.api.patch("/api/v1/organization/", {"name": "One"})
    alice.api.post("/api/v1/api-keys/", {"name": "ci", "scopes": ["read"]})
    events = alice.api.get("/api/v1/audit-events/").json()["items"]
    assert [event["action"] for event in events] == ["api_key.create", "organization.rename"]
    only = alice.api.get("/api/v1/audit-events/?action=organization.rename").json()["items"]
    assert only == [events[1]]
    assert alice.api.get(f"/api/v1/audit-events/?since={events[0]['at']}").json()["items"] == [events[0]]
    misspelt = alice.api.get("/api/v1/audit-events/?actio=x")
    assert misspelt.json()["errors"] == [
        {"field": "actio", "message": "There is no such field; did you mean 'action'?"}
    ]


@pytest.mark.parametrize(
    "change", ["UPDATE accounts_auditevent SET action = 'x'", "DELETE FROM accounts_auditevent"]
)
def test_the_database_refuses_to_change_the_trail(alice: Person, change: str) -> None:
    alice.api.patch("/api/v1/organization/", {"name": "One"})
    before = trail(alice)
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)
    assert trail(alice) == before
