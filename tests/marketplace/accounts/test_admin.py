"""The staff's view of customers."""

from __future__ import annotations

import pytest
from django.test import Client

from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Organization, User
from tests.people import PASSWORD, Person


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff@example.com", PASSWORD))
    return client


@pytest.mark.parametrize("page", ["user", "organization", "apikey", "auditevent"])
def test_lists_search_and_details_open(staff: Client, alice: Person, page: str) -> None:
    alice.api.patch("/api/v1/organization/", {"name": "One"})
    row = {"user": User, "organization": Organization, "apikey": ApiKey, "auditevent": AuditEvent}[page]
    first = row.objects.first()  # type: ignore[attr-defined]
    for url in (f"/admin/accounts/{page}/?q=a", f"/admin/accounts/{page}/{first.pk}/change/"):
        assert staff.get(url).status_code == 200


def test_a_key_is_shown_without_its_hash(staff: Client, alice: Person) -> None:
    key, _ = alice.key()
    page = staff.get(f"/admin/accounts/apikey/{key.pk}/change/").content.decode()
    assert key.prefix in page
    assert key.hash not in page


def test_staff_revoke_a_leaked_key_and_the_customer_sees_who_did(staff: Client, alice: Person) -> None:
    key, _ = alice.key()
    staff.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None
    event = AuditEvent.objects.get()
    assert (event.organization, event.actor_user, event.action, event.target) == (
        alice.organization,
        "staff@example.com",
        "api_key.revoke",
        key.public_id,
    )


def test_staff_make_an_organization_with_its_owner(staff: Client, alice: Person) -> None:
    form = {
        "slug": "initech",
        "name": "Initech",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(alice.user.pk),
        "memberships-0-role": "owner",
    }
    assert staff.post("/admin/accounts/organization/add/", form).status_code == 302
    made = Organization.objects.get(slug="initech")
    assert [str(row) for row in made.memberships.all()] == ["alice@example.com is owner of Initech"]
    trail = AuditEvent.objects.filter(organization=made).order_by("id")
    assert [(event.action, event.changes) for event in trail] == [
        ("organization.create", {"slug": [None, "initech"], "name": [None, "Initech"]}),
        ("member.add", {"email": ["alice@example.com"] * 2, "role": [None, "owner"]}),
    ]


def test_staff_change_a_role_and_it_is_noted(staff: Client, alice: Person, bob: Person) -> None:
    rows = list(Membership.objects.filter(organization=alice.organization).order_by("pk"))
    form = {"name": "Acme", "memberships-TOTAL_FORMS": "2", "memberships-INITIAL_FORMS": "2"}
    for index, row in enumerate(rows):
        form |= {
            f"memberships-{index}-id": str(row.pk),
            f"memberships-{index}-organization": str(alice.organization.pk),
            f"memberships-{index}-user": str(row.user.pk),
            f"memberships-{index}-role": "billing" if row == bob.membership else row.role,
        }
    url = f"/admin/accounts/organization/{alice.organization.pk}/change/"
    assert staff.post(url, form).status_code == 302
    event = AuditEvent.objects.get()
    assert (event.action, event.target, event.changes["role"]) == (
        "member.change_role",
        bob.membership.public_id,
        ["viewer", "billing"],
    )


def test_a_member_whom_staff_remove_leaves_without_their_keys(
    staff: Client, alice: Person, bob: Person
) -> None:
    alice.key()
    key, _ = bob.key()
    form = {"name": "Acme", "memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "1"}
    form |= {
        "memberships-0-id": str(bob.membership.pk),
        "memberships-0-organization": str(alice.organization.pk),
        "memberships-0-user": str(bob.user.pk),
        "memberships-0-role": bob.membership.role,
        "memberships-0-DELETE": "on",
    }
    url = f"/admin/accounts/organization/{alice.organization.pk}/change/"
    assert staff.post(url, form).status_code == 302
    assert list(ApiKey.objects.exclude(revoked_at=None)) == [key]
    assert [event.action for event in AuditEvent.objects.order_by("id")] == [
        "member.remove",
        "api_key.revoke",
    ]


def test_staff_make_a_user_by_email(staff: Client) -> None:
    form = {
        "email": "New@Example.com",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    assert staff.post("/admin/accounts/user/add/", form).status_code == 302
    assert User.objects.get(email="new@example.com").check_password(PASSWORD)


@pytest.mark.parametrize("page", ["apikey", "auditevent"])
def test_nobody_adds_or_deletes_here(staff: Client, alice: Person, page: str) -> None:
    alice.api.patch("/api/v1/organization/", {"name": "One"})
    assert staff.get(f"/admin/accounts/{page}/add/").status_code == 403
    row = {"apikey": ApiKey, "auditevent": AuditEvent}[page].objects.get()  # type: ignore[attr-defined]
    assert staff.post(f"/admin/accounts/{page}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert (ApiKey.objects.count(), AuditEvent.objects.count()) == (1, 1)


def test_customers_do_not_get_in(alice: Person) -> None:
    answer = alice.browser.get("/admin/accounts/user/")
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")
