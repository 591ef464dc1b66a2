"""A canary gets its share of the calls, and no call is lost to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from deployments.gateway.directory import load_served
from deployments.serving.models import Deployment, Replica
from tests.deployments.gateway.conftest import add_replica
from tests.deployments.gateway.servers import Runtime, unused_address
from tests.people import Person
from tests.waiting import eventually

Deploy = Callable[..., Deployment]
Start = Callable[..., tuple[Runtime, str]]

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Moien"}]}
CALLS = 400


@pytest.fixture
def deployment(deploy: Deploy, runtimes: Start, alice: Person) -> Deployment:
    """Revision 1 serves with two replicas, and revision 2 is a canary of 20 % with one."""
    stable = [runtimes(f"stable-{number}")[1] for number in range(2)]
    columns = {"target_revision": 2, "canary_weight": 20, "stable_revision": 1, "state": "updating"}
    made = deploy(alice.organization, "chat", *stable, **columns)
    add_replica(made, runtimes("canary")[1], revision=2)
    return made


def answered_by(http: httpx.Client, *, calls: int = CALLS) -> Counter[str]:
    """Which revision answered each of the calls."""
    answers = [http.post("/v1/chat/completions", json=CHAT) for _ in range(calls)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["x-deployment-revision"] for answer in answers)


def test_calls_are_split_by_weight_and_not_by_replicas(deployment: Deployment, http: httpx.Client) -> None:
    share = answered_by(http)["2"] / CALLS
    # Ids are random: six standard deviations of 400 throws at 20 % are 12 points.
    assert 0.08 < share < 0.32


def test_a_call_that_is_sent_again_goes_the_same_way(deployment: Deployment, http: httpx.Client) -> None:
    revisions = {
        http.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": f"order-{call % 5}"}).headers[
            "x-deployment-revision"
        ]
        + f" answers order-{call % 5}"
        for call in range(50)
    }
    assert len(revisions) == 5


def test_many_ids_are_split_as_said(deployment: Deployment) -> None:
    (served,) = load_served(deployment.organization_id)
    sides = Counter(served.share_of(f"req_{number}") == served.canary for number in range(20_000))
    assert abs(sides[True] / 20_000 - 0.2) < 0.01


def test_no_call_is_lost_to_a_canary_that_cannot_be_reached(
    deployment: Deployment, http: httpx.Client
) -> None:
    Replica.objects.filter(revision=2).update(address=unused_address())
    assert answered_by(http, calls=60) == {"1": 60}


def test_the_canary_answers_alone_while_the_stable_revision_is_down(
    deployment: Deployment, http: httpx.Client
) -> None:
    Replica.objects.filter(revision=1).update(ready=False)
    assert answered_by(http, calls=20) == {"2": 20}


def test_a_promoted_canary_gets_no_more_until_it_has_taken_over(
    deployment: Deployment, http: httpx.Client
) -> None:
    Deployment.objects.update(canary_weight=None, stable_revision=None)
    eventually(lambda: answered_by(http, calls=20) == {"1": 20})
    Deployment.objects.update(serving_revision=2)
    eventually(lambda: answered_by(http, calls=20) == {"2": 20})
