import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from deployments.clusters.local.store import Store
from deployments.serving import logs
from deployments.serving.models import Deployment
from tests.market import Market
from tests.people import Person


def test_the_home_page_shows_the_catalog_and_what_runs(alice: Person, market: Market) -> None:
    alice.api.post("/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"})
    page = alice.browser.get("/").content.decode()
    assert "Chatter" in page
    assert "ready to deploy" in page
    assert ">bot</a>" in page


def test_a_visitor_is_asked_to_sign_in(market: Market, client: object) -> None:
    response = client.get("/")  # type: ignore[attr-defined]
    assert response.status_code == 302
    assert response.url.startswith("/sign-in/")


def test_a_nul_in_an_id_finds_nothing(alice: Person, market: Market) -> None:
    for path in ("/models/%00/", "/deployments/%00/", "/fine-tuning/%00/"):
        assert alice.browser.get(path).status_code == 404
    plan = {"plan": "pln_\0", "name": "bot"}
    assert alice.browser.post(f"/models/{market.model.public_id}/", plan).status_code == 404


def test_a_model_is_planned_then_deployed(alice: Person, market: Market) -> None:
    path = f"/models/{market.model.public_id}/"
    ask = {
        "flavor": "test-small",
        "region": "",
        "replicas": "1",
        "context_length": "",
        "max_concurrency": "4",
    }
    planned = alice.browser.post(path, ask)
    plan = planned.context["plan"]
    assert plan.accepted
    assert "0.0006" in planned.content.decode()
    done = alice.browser.post(path, {"plan": plan.public_id, "name": "bot"})
    deployment = Deployment.objects.get(organization=alice.organization)
    assert done.url == f"/deployments/{deployment.public_id}/"
    assert deployment.name == "bot"


def test_the_page_of_a_plan_tells_memory_in_the_unit_of_its_checks(alice: Person, market: Market) -> None:
    ask = {
        "flavor": "test-small",
        "region": "",
        "replicas": "1",
        "context_length": "",
        "max_concurrency": "4",
    }
    page = alice.browser.post(f"/models/{market.model.public_id}/", ask).content.decode()
    assert re.search(r"<dt>Memory</dt><dd>\d+\.\d GiB to \d+\.\d GiB of 4\.0 GiB</dd>", page)
    assert not re.search(r"\d\s*GB\b", page)


def test_a_plan_that_does_not_fit_says_why_and_offers_no_button(alice: Person, market: Market) -> None:
    ask = {"flavor": "", "region": "", "replicas": "1", "context_length": "8192", "max_concurrency": "512"}
    page = alice.browser.post(f"/models/{market.model.public_id}/", ask).content.decode()
    assert "It cannot be deployed like this" in page
    assert "Does not fit" in page
    assert ">Deploy</button>" not in page


def test_too_long_a_context_is_an_error_of_its_field(alice: Person, market: Market) -> None:
    ask = {"flavor": "", "region": "", "replicas": "1", "context_length": "9000", "max_concurrency": "1"}
    response = alice.browser.post(f"/models/{market.model.public_id}/", ask)
    assert response.context["form"].errors == {"context_length": ["Chatter supports at most 8192 tokens."]}


def test_a_deployment_is_paused_resumed_and_deleted(alice: Person, market: Market) -> None:
    made = alice.api.post(
        "/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    ).json()
    path = f"/deployments/{made['id']}/"
    seen = []
    for action in ("pause", "resume", "delete"):
        assert alice.browser.post(path, {"action": action}).url == path
        seen.append(Deployment.objects.get().desired_state)
    assert seen == ["paused", "running", "deleted"]


def test_a_viewer_may_look_but_not_act(alice: Person, bob: Person, market: Market) -> None:
    made = alice.api.post(
        "/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    ).json()
    path = f"/deployments/{made['id']}/"
    assert bob.browser.get(path).status_code == 200
    assert bob.browser.post(path, {"action": "delete"}).status_code == 403


def test_a_stranger_finds_nothing(alice: Person, charlie: Person, market: Market) -> None:
    made = alice.api.post(
        "/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    ).json()
    market.model.owner = alice.organization
    market.model.save()
    paths = [f"/deployments/{made['id']}/", f"/models/{market.model.public_id}/"]
    assert [charlie.browser.get(path).status_code for path in paths] == [404, 404]
    assert [charlie.browser.post(path, {"action": "delete"}).status_code for path in paths] == [404, 404]
    assert "Chatter" not in charlie.browser.get("/").content.decode()


@pytest.mark.parametrize(
    ("task", "call"),
    [
        (
            "text-generation",
            "client.chat.completions.create(\n"
            '    model="bot",\n'
            '    messages=[{"role": "user", "content": "Hello"}],\n'
            "    max_tokens=64,\n"
            "    temperature=0,\n"
            ")</code></pre>",
        ),
        (
            "feature-extraction",
            'client.embeddings.create(\n    model="bot",\n    input=["Hello"],\n)</code></pre>',
        ),
    ],
)
def test_the_page_of_a_deployment_shows_the_call_that_its_model_answers(
    alice: Person, market: Market, task: str, call: str
) -> None:
    document = make_deployment(alice)
    market.model.task = task
    market.model.save()
    page = alice.browser.get(f"/deployments/{document['id']}/").content.decode()
    assert page.count(".create(") == 1
    assert call in page


def test_another_organizations_plan_cannot_be_used(alice: Person, charlie: Person, market: Market) -> None:
    plan = charlie.api.post("/api/v1/plans/", {"model": "tests/chatter"}).json()
    response = alice.browser.post(f"/models/{market.model.public_id}/", {"plan": plan["id"], "name": "bot"})
    assert response.status_code == 404
    assert not Deployment.objects.filter(created_at__lte=timezone.now()).exists()


def test_the_page_of_a_deployment_shows_the_newest_lines_of_its_log(
    alice: Person, market: Market, tmp_path: Path
) -> None:
    market.cluster.configuration = {"root": str(tmp_path)}
    market.cluster.save()
    document = make_deployment(alice)
    write_log(tmp_path, document["id"], lines=10_500)
    page = alice.browser.get(f"/deployments/{document['id']}/")
    assert page.context["log"] == [f"line {number}" for number in range(10_401, 10_501)]


def test_logs_can_be_read_from_their_end(alice: Person, market: Market, tmp_path: Path) -> None:
    market.cluster.configuration = {"root": str(tmp_path)}
    market.cluster.save()
    document = make_deployment(alice)
    write_log(tmp_path, document["id"], lines=1_500)
    answer = alice.api.get(f"/api/v1/deployments/{document['id']}/logs/?tail=2").json()
    assert answer == {
        "items": [{"number": number, "text": f"line {number}"} for number in (1_499, 1_500)],
        "next_after": 1_500,
    }


def test_who_comes_while_many_logs_are_read_is_told_to_come_again(
    alice: Person, market: Market, tmp_path: Path
) -> None:
    """A node that hangs must not take all the threads that answer requests."""
    market.cluster.configuration = {"root": str(tmp_path)}
    market.cluster.save()
    document = make_deployment(alice)
    write_log(tmp_path, document["id"], lines=1)
    path, page = f"/api/v1/deployments/{document['id']}/logs/", f"/deployments/{document['id']}/"
    with ExitStack() as others:
        for _ in range(logs.READERS):
            others.enter_context(logs._room)
        answer = alice.api.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/logs-busy")
        assert answer.headers["Retry-After"] == "2"
        assert alice.browser.get(page).context["log"] == []
    for _ in range(logs.READERS + 1):  # each gives its room back
        assert alice.api.get(path).json()["items"] == [{"number": 1, "text": "line 1"}]


def test_a_log_that_cannot_be_read_gives_its_room_back(alice: Person, market: Market, tmp_path: Path) -> None:
    market.cluster.configuration = {"root": str(tmp_path)}
    market.cluster.save()
    document = make_deployment(alice)
    path = f"/api/v1/deployments/{document['id']}/logs/"
    folder = Store(tmp_path).logs(document["id"])
    folder.mkdir(parents=True)
    (folder / "00000000000000001-pod.log").mkdir()  # which cannot be read as a file
    for _ in range(logs.READERS + 1):
        assert alice.api.get(path).json()["type"] == "/problems/cluster-unreachable"


def make_deployment(person: Person) -> dict[str, Any]:
    ask = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    document: dict[str, Any] = person.api.post("/api/v1/deployments/", ask).json()
    return document


def write_log(root: Path, resource: str, *, lines: int) -> None:
    folder = Store(root).logs(resource)
    folder.mkdir(parents=True)
    text = "".join(f"line {number}\n" for number in range(1, lines + 1))
    (folder / "00000000000000001-pod.log").write_text(text)
