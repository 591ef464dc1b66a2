"""Ways out of a deployment that does not run: told with their price, and applied by one call."""

from decimal import Decimal
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from deployments.planning.actions import NO_PLACE, NOTHING_WRONG, QUOTA, TOO_LITTLE_MEMORY
from deployments.reconcile.explanation import MEANINGS, Fixer, Why
from deployments.serving.models import Deployment, Event
from marketplace.billing.models import Price, Quota, QuotaRequest
from tests.market import BEGINNING, Market
from tests.people import Person

DEPLOYMENTS = "/api/v1/deployments/"


def stuck(person: Person, market: Market, *, why: Why = Why.NO_CAPACITY, **changes: Any) -> str:
    """A deployment that says why it does not run, and another flavor for sale with room."""
    Price.objects.create(
        flavor=market.large,
        region=market.region,
        per_second=Decimal("0.00003"),
        currency="EUR",
        valid=DateTimeTZRange(BEGINNING, None),
    )
    ask = {"name": "bot", "model": "tests/chatter", "flavor": "test-small", **changes}
    made = person.api.post(DEPLOYMENTS, ask).json()["id"]
    Deployment.objects.filter(public_id=made).update(explanation=explanation(why))
    return f"{DEPLOYMENTS}{made}/"


def explanation(why: Why) -> dict[str, Any]:
    meaning = MEANINGS[why]
    return {
        "reason": why.value,
        "state": meaning.state,
        "who": meaning.who.value,
        "retry_helps": meaning.retry,
        "message": "No node has room.",
        "numbers": [],
        "since": timezone.now().isoformat(),
        "attempts": 0,
    }


def test_every_reason_is_one_that_explanations_give() -> None:
    known = {why.value for why in Why}
    assert known | {"Unschedulable", "MemoryDoesNotFit"} >= NO_PLACE | TOO_LITTLE_MEMORY | QUOTA
    assert known >= NOTHING_WRONG
    assert {why.value for why, meaning in MEANINGS.items() if meaning.who is Fixer.NOBODY} <= NOTHING_WRONG


def test_an_explanation_tells_ways_out_with_their_price(alice: Person, market: Market) -> None:
    path = stuck(alice, market)
    actions = alice.api.get(path).json()["explanation"]["actions"]
    assert [action["id"] for action in actions] == ["flavor:test-large", "wait", "pause"]
    move = actions[0]
    assert (move["per_hour_before"], move["per_hour_after"], move["currency"]) == ("0.036", "0.108", "EUR")
    assert move["price"]["per_hour"] == "0.108"
    assert (move["method"], move["endpoint"], move["body"]) == (
        "POST",
        f"{path}actions/",
        {"action": "flavor:test-large"},
    )


def test_an_action_is_applied_once_however_often_it_is_sent(alice: Person, market: Market) -> None:
    path = stuck(alice, market)
    first = alice.api.post(f"{path}actions/", {"action": "flavor:test-large"})
    again = alice.api.post(f"{path}actions/", {"action": "flavor:test-large"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["flavor"] == "test-large"
    assert (again.json()["target_revision"], again.json()["generation"]) == (2, 2)
    assert first.json()["price"]["per_hour"] == "0.108"


def test_an_action_that_would_not_help_any_more_is_refused_with_those_that_do(
    alice: Person, market: Market
) -> None:
    path = stuck(alice, market)
    market.large.enabled = False
    market.large.save()
    answer = alice.api.post(f"{path}actions/", {"action": "flavor:test-large"})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/action-gone")
    assert [action["id"] for action in problem["actions"]] == ["wait", "pause"]
    assert Deployment.objects.get().generation == 1


def stuck_update(person: Person, market: Market) -> str:
    """Revision 1 serves, and revision 2 finds no room."""
    path = stuck(person, market)
    Deployment.objects.update(serving_revision=1, fallback_revision=1, ready_replicas=1, explanation=None)
    assert person.api.patch(path, {"context_length": 1024}).status_code == 200
    Deployment.objects.update(explanation=explanation(Why.NO_CAPACITY))
    return path


def test_an_update_without_room_is_taken_back_by_one_call(alice: Person, market: Market) -> None:
    path = stuck_update(alice, market)
    offered = [action["id"] for action in alice.api.get(path).json()["explanation"]["actions"]]
    assert offered[:2] == ["revision:1", "strategy:recreate"]
    answers = [alice.api.post(f"{path}actions/", {"action": "revision:1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    rows = [answer.json() for answer in answers]
    assert [(row["target_revision"], row["generation"]) for row in rows] == [(1, 3), (1, 3)]


def test_an_update_without_room_replaces_first_by_one_call(alice: Person, market: Market) -> None:
    path = stuck_update(alice, market)
    answers = [alice.api.post(f"{path}actions/", {"action": "strategy:recreate"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    row = Deployment.objects.get()
    assert (row.strategy, row.target_revision, row.generation) == ("recreate", 2, 3)


def test_nothing_is_to_be_done_about_a_deployment_that_runs(alice: Person, market: Market) -> None:
    path = stuck(alice, market)
    Deployment.objects.update(explanation=None)
    answer = alice.api.post(f"{path}actions/", {"action": "wait"})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "The action 'wait' would not help now. Nothing has to be done.",
    )


def test_less_memory_is_asked_of_what_ran_out_of_it(alice: Person, market: Market) -> None:
    path = stuck(alice, market, why=Why.OUT_OF_MEMORY)
    done = alice.api.post(f"{path}actions/", {"action": "context_length:1024"})
    assert done.status_code == 200, done.json()
    plan = alice.api.get(f"/api/v1/plans/{done.json()['plan']}/").json()
    assert plan["spec"]["context_length"] == 1024


def test_a_higher_quota_is_asked_for_once(alice: Person, market: Market) -> None:
    path = stuck(alice, market, why=Why.QUOTA, replicas=2)
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=2)
    for _ in range(2):
        assert alice.api.post(f"{path}actions/", {"action": "quota:4"}).status_code == 200
    request = QuotaRequest.objects.get()
    assert (request.limit, request.state) == (4, "open")
    assert Event.objects.filter(reason="QuotaRequested").count() == 1


def test_the_portal_shows_ways_out_as_buttons(alice: Person, market: Market) -> None:
    path = stuck(alice, market).removeprefix("/api/v1")
    page = alice.browser.get(path).content.decode()
    assert "Move to test-large" in page
    assert "0.108 EUR an hour instead of 0.036" in page
    assert alice.browser.post(path, {"way-out": "flavor:test-large"}).status_code == 302
    assert Deployment.objects.get().flavor == market.large
    alice.browser.post(path, {"way-out": "flavor:never"})
    assert "would not help now" in alice.browser.get(path).content.decode()
