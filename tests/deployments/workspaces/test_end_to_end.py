"""A workspace from the wish to the last trace of it: a real notebook server on the local cluster, entered
through the gateway."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django import Settings
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from deployments.gateway.application import create_application
from deployments.gateway.limits import Limits
from deployments.reconcile.reconciler import reconcile
from deployments.workspaces.models import Workspace
from tests.deployments.clusters.nodes import LocalNode
from tests.deployments.gateway.servers import serving
from tests.frameworks import add_framework
from tests.market import Market
from tests.people import Person
from tests.processes import wait_until

START_SECONDS = 60
WISH = {"name": "lab", "framework": "test-framework", "flavor": "test-small", "volume_gib": 1}


@dataclass
class Lab:
    """A workspace of alice, the node that it runs on, and the gateway before it."""

    alice: Person
    node: LocalNode
    gateway: str
    public_id: str

    @property
    def path(self) -> str:
        return f"/api/v1/workspaces/{self.public_id}/"

    @property
    def claims(self) -> list[Path]:
        return list((self.node.home / "cluster" / "claims").iterdir())

    def token(self) -> str:
        token: str = self.alice.api.post(f"{self.path}token/").json()["token"]
        return token

    def ask(self, method: str, path: str, *, token: str = "", **request: Any) -> httpx.Response:
        headers = {"authorization": f"token {token}"} if token else {}
        headers |= request.pop("headers", {})
        url = f"{self.gateway}/workspaces/{self.public_id}/{path}"
        return httpx.request(method, url, headers=headers, timeout=20, trust_env=False, **request)

    def channels(self, kernel: str) -> str:
        """Where a kernel is talked to."""
        address = self.gateway.replace("http://", "ws://")
        return f"{address}/workspaces/{self.public_id}/api/kernels/{kernel}/channels"

    def enters(self, token: str) -> bool:
        return self.ask("GET", "api/status", token=token).status_code == 200

    def reaches(self, state: str) -> Callable[[], bool]:
        """Looks once, as the sweep would, and says whether the workspace is in the state."""

        def look() -> bool:
            reconcile(self.public_id, cluster=self.node.cluster)
            return Workspace.objects.get(public_id=self.public_id).state == state

        return look

    def run(self, code: str, *, token: str) -> str:
        """What the last expression of the code is, computed by a kernel of its own."""
        kernel = self.ask("POST", "api/kernels", token=token).json()["id"]
        with connect(f"{self.channels(kernel)}?token={token}", open_timeout=20) as socket:
            socket.send(json.dumps(execution(code)))
            while True:
                message = json.loads(socket.recv(timeout=30))
                if message["msg_type"] == "execute_result":
                    result: str = message["content"]["data"]["text/plain"]
                    return result


def execution(code: str) -> dict[str, Any]:
    """A message of Jupyter's protocol: https://jupyter-client.readthedocs.io/en/stable/messaging.html"""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
    return {
        "header": header | {"username": "alice", "session": "s", "date": "2026-01-01T00:00:00Z"},
        "parent_header": {},
        "metadata": {},
        "channel": "shell",
        "content": {"code": code, "silent": False, "store_history": True, "allow_stdin": False},
        "buffers": [],
    }


@pytest.fixture
def lab(
    transactional_db: None, market: Market, alice: Person, tmp_path: Path, settings: Settings
) -> Iterator[Lab]:
    node = LocalNode(tmp_path)
    add_framework()
    node.start()
    try:
        with serving(create_application(Limits(directory_age=0.05))) as address:
            settings.GATEWAY_URL = f"http://{address}"
            public_id = alice.api.post("/api/v1/workspaces/", WISH).json()["id"]
            yield Lab(alice=alice, node=node, gateway=f"http://{address}", public_id=public_id)
    finally:
        node.close()


def test_a_workspace_runs_pauses_comes_back_with_its_files_and_goes_for_good(lab: Lab):
    wait_until(lab.reaches("running"), seconds=START_SECONDS, what="the start")
    token = lab.token()
    wait_until(lambda: lab.enters(token), seconds=10, what="the way in")

    # Only with its token.
    assert lab.ask("GET", "api/contents").status_code == 403
    assert lab.ask("GET", "api/contents", token="f" * 64).status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        connect(lab.channels(str(uuid.uuid4())))
    assert refused.value.response.status_code == 403

    # A kernel computes, over a WebSocket, and files are written.
    assert lab.run("1 + 1", token=token) == "2"
    note = {"type": "file", "format": "text", "content": "kept"}
    assert lab.ask("PUT", "api/contents/note.txt", token=token, json=note).status_code == 201
    (folder,) = lab.claims
    assert (folder / "note.txt").read_text() == "kept"

    # Paused: nothing runs, the volume stays, and whoever comes is told so.
    lab.alice.api.post(f"{lab.path}pause/")
    wait_until(lab.reaches("paused"), seconds=40, what="the pause")
    assert lab.node.processes() == []
    wait_until(lambda: "is paused" in lab.ask("GET", "").text, seconds=10, what="the refusal")
    page = lab.ask("GET", "", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")

    # Resumed: the same files, and the same token.
    lab.alice.api.post(f"{lab.path}resume/")
    wait_until(lab.reaches("running"), seconds=START_SECONDS, what="the start after the pause")
    wait_until(lambda: lab.enters(token), seconds=10, what="the way back in")
    assert lab.ask("GET", "api/contents/note.txt", token=token).json()["content"] == "kept"

    # Deleted: the data too.
    lab.alice.api.delete(lab.path)
    wait_until(lab.reaches("deleted"), seconds=40, what="the deletion")
    assert lab.claims == []
    wait_until(lambda: lab.ask("GET", "").status_code == 404, seconds=10, what="the end")


def test_another_token_shuts_out_whoever_had_the_first(lab: Lab):
    wait_until(lab.reaches("running"), seconds=START_SECONDS, what="the start")
    first = lab.token()
    wait_until(lambda: lab.enters(first), seconds=10, what="the way in")
    browser = httpx.Client(base_url=f"{lab.gateway}/workspaces/{lab.public_id}", trust_env=False)
    assert browser.get("/api/status", params={"token": first}).status_code == 200
    assert browser.get("/api/status").status_code == 200  # by its cookie

    second = lab.alice.api.post(f"{lab.path}token/rotate/").json()["token"]

    def knows_the_second() -> bool:
        lab.reaches("running")()
        return lab.enters(second)

    wait_until(knows_the_second, seconds=START_SECONDS, what="the start with another token")
    assert lab.enters(first) is False
    assert browser.get("/api/status").status_code == 403
    browser.close()
