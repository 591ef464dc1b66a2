"""What staff decide about requests for quota."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from marketplace.accounts.models import Organization, User
from marketplace.billing.models import Quota, QuotaRequest

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff@example.com", "a long password"))
    return client


def asked(organization: Organization, limit: int) -> QuotaRequest:
    return QuotaRequest.objects.create(
        organization=organization, accelerator_family="cuda", limit=limit, requested_by="alice@example.com"
    )


def decide(staff: Client, *requests: QuotaRequest, action: str) -> None:
    chosen = {"action": action, "_selected_action": [request.pk for request in requests]}
    assert staff.post(reverse("admin:billing_quotarequest_changelist"), chosen).status_code == 302


@pytest.mark.parametrize(
    ("action", "held", "limits", "granted"),
    [
        pytest.param("grant", 2, [8], 8, id="what was asked for"),
        pytest.param("grant", 2, [8, 4], 8, id="the most of several"),
        pytest.param("grant", 16, [8], 16, id="no less than it became meanwhile"),
        pytest.param("decline", 2, [8], 2, id="declined"),
    ],
)
def test_granting_raises_a_quota_and_never_lowers_it(staff, acme, action, held, limits, granted):
    Quota.objects.create(organization=acme, accelerator_family="cuda", limit=held)
    requests = [asked(acme, limit) for limit in limits]
    decide(staff, *requests, action=action)
    assert Quota.objects.get().limit == granted
    assert not QuotaRequest.objects.filter(state="open").exists()


def test_a_quota_that_was_taken_away_stays_away(staff, acme):
    """Without one there is no limit at all."""
    decide(staff, asked(acme, 8), action="grant")
    assert not Quota.objects.exists()
