from __future__ import annotations

import pytest
from pytest_django import Settings

from deployments.workspaces.models import Workspace
from tests.frameworks import add_framework
from tests.market import Market
from tests.people import Person

PAGE = "/workspaces/"
WISH = {"name": "lab", "framework": "test-framework", "flavor": "test-small", "volume_gib": "5"}


@pytest.fixture(autouse=True)
def offered(market: Market) -> None:
    add_framework()


def start(alice: Person) -> str:
    alice.browser.post(PAGE, WISH)
    return f"{PAGE}{Workspace.objects.get().public_id}/"


def test_a_workspace_is_started_and_listed(alice: Person):
    assert "There is no workspace yet" in alice.browser.get(PAGE).content.decode()

    started = alice.browser.post(PAGE, WISH)

    workspace = Workspace.objects.get()
    assert started.url == f"{PAGE}{workspace.public_id}/"
    assert (workspace.volume_gib, workspace.framework.slug) == (5, "test-framework")
    assert "lab" in alice.browser.get(PAGE).content.decode()
    assert "Test framework" in alice.browser.get(started.url).content.decode()


def test_only_frameworks_that_can_run_here_are_offered(alice: Person):
    add_framework("test-poplar", family="ipu")
    add_framework("test-bare", image="")

    page = alice.browser.get(PAGE).content.decode()

    assert "test-framework" in page
    assert "test-poplar" not in page and "test-bare" not in page


def test_what_is_wrong_is_said_at_the_field(alice: Person):
    page = alice.browser.post(PAGE, {**WISH, "flavor": "test-large"})

    assert "test-large has no price today" in page.content.decode()
    assert not Workspace.objects.exists()


def test_the_button_opens_it_with_its_token(alice: Person, settings: Settings):
    settings.GATEWAY_URL = "https://models.example"
    path = start(alice)
    Workspace.objects.update(state="running")
    assert 'value="open"' in alice.browser.get(path).content.decode()

    opened = alice.browser.post(path, {"action": "open"})

    workspace = Workspace.objects.get()
    address, _, token = opened.url.partition("?token=")
    assert address == f"https://models.example/workspaces/{workspace.public_id}/"
    assert len(token) == 64


def test_the_policy_of_pages_lets_a_form_lead_to_the_gateway(alice: Person, settings: Settings):
    policy = alice.browser.get(PAGE).headers["content-security-policy"]

    assert f"form-action 'self' {settings.GATEWAY_URL}" in policy


def test_it_is_paused_resumed_and_deleted(alice: Person):
    path = start(alice)

    for action, state in (("pause", "paused"), ("resume", "running"), ("delete", "deleted")):
        alice.browser.post(path, {"action": action})
        assert Workspace.objects.get().desired_state == state


def test_a_viewer_sees_it_and_cannot_open_it(alice: Person, bob: Person):
    path = start(alice)

    assert bob.browser.get(path).status_code == 200
    assert bob.browser.post(path, {"action": "open"}).status_code == 403


def test_a_stranger_does_not_find_it(alice: Person, charlie: Person):
    assert charlie.browser.get(start(alice)).status_code == 404
