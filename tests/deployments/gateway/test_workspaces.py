"""Workspaces through the gateway, with a server of the test's own in place of the notebook server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from django.utils import timezone
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from deployments.serving.models import Replica
from deployments.workspaces.models import Workspace
from tests.deployments.gateway.servers import serving
from tests.frameworks import add_framework
from tests.market import Market
from tests.people import Person


async def tell(request: Request) -> Response:
    """Says how the request arrived."""
    body = await request.body()
    raw = request.scope["raw_path"].decode()
    return JSONResponse(
        {"path": raw, "query": request.url.query, "method": request.method, "bytes": len(body)},
        headers={"content-security-policy": "default-src 'self'"},
    )


async def trickle(request: Request) -> Response:
    async def chunks():
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(chunks(), media_type="text/plain")


async def move(request: Request) -> Response:
    return RedirectResponse("/workspaces/elsewhere/", status_code=302)


async def echo(socket: WebSocket) -> None:
    """Says everything back, and ends when asked to."""
    await socket.accept(subprotocol="v1.kernel.websocket.jupyter.org")
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == "end":
            await socket.close(3000)
            return
        await socket.send({**message, "type": "websocket.send"})


SERVER = Starlette(
    routes=[
        Route("/workspaces/{id}/trickle", trickle),
        Route("/workspaces/{id}/move", move),
        WebSocketRoute("/workspaces/{id}/echo", echo),
        Route("/workspaces/{id}/{rest:path}", tell, methods=["GET", "PUT", "DELETE", "PATCH", "POST"]),
    ]
)


@pytest.fixture
def workspace(transactional_db: None, market: Market, alice: Person) -> Workspace:
    return Workspace.objects.create(
        organization=alice.organization,
        name="lab",
        framework=add_framework(),
        flavor=market.flavor,
        cluster=market.cluster,
        price=market.price,
        volume_gib=1,
        spec={},
        token_hash="a" * 64,
        state="running",
    )


@pytest.fixture
def serve(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """Starts the pod of the workspace."""
    with ExitStack() as stack:

        def start(address: str = "") -> None:
            Replica.objects.create(
                uid="uid-1",
                name="pod-1",
                organization=workspace.organization,
                resource=workspace.public_id,
                cluster=workspace.cluster,
                address=address or stack.enter_context(serving(SERVER)),
                phase="Running",
                ready=True,
                created_at=timezone.now(),
            )

        yield start


@pytest.fixture
def url(gateway: str, workspace: Workspace) -> str:
    return f"{gateway}/workspaces/{workspace.public_id}"


def ask(method: str, url: str, **request: object) -> httpx.Response:
    return httpx.request(method, url, trust_env=False, timeout=20, **request)  # type: ignore[arg-type]


def test_path_query_and_method_arrive_as_they_were(url: str, serve: Callable[[], None], workspace: Workspace):
    serve()

    answer = ask("PATCH", f"{url}/api/contents/a%2Fb%20c.ipynb?type=file&x=%26")

    assert answer.json() == {
        "path": f"/workspaces/{workspace.public_id}/api/contents/a%2Fb%20c.ipynb",
        "query": "type=file&x=%26",
        "method": "PATCH",
        "bytes": 0,
    }
    assert answer.headers["content-security-policy"] == "default-src 'self'"


def test_an_upload_larger_than_any_model_call_passes(url: str, serve: Callable[[], None]):
    serve()

    assert ask("PUT", f"{url}/upload", content=b"x" * 3_000_000).json()["bytes"] == 3_000_000


def test_an_upload_of_unknown_length_passes(url: str, serve: Callable[[], None]):
    serve()

    assert ask("POST", f"{url}/upload", content=iter([b"ab", b"cd"])).json()["bytes"] == 4


def test_a_streamed_answer_and_a_redirect_pass(url: str, serve: Callable[[], None]):
    serve()

    assert ask("GET", f"{url}/trickle").text == "0\n1\n2\n"
    assert ask("GET", f"{url}/move").headers["location"] == "/workspaces/elsewhere/"


def test_a_websocket_carries_text_and_bytes_both_ways_and_the_end(url: str, serve: Callable[[], None]):
    serve()

    with connect(
        url.replace("http://", "ws://") + "/echo", subprotocols=["v1.kernel.websocket.jupyter.org"]
    ) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "v1.kernel.websocket.jupyter.org"
        for message in ("1 + 1", b"\x00\xff" * 100_000):
            socket.send(message)
            assert socket.recv(timeout=10) == message
        socket.send("end")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 3000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"desired_state": "paused"}, "is paused. Resume it to work in it; its volume is kept."),
        ({"state": "initializing"}, "is initializing."),
        (
            {
                "state": "pending",
                "conditions": [{"status": "False", "message": "No node has room."}],
            },
            "is waiting for capacity: No node has room.",
        ),
        ({}, "does not answer at the moment."),
    ],
)
def test_a_workspace_that_does_not_answer_says_why(
    url: str, workspace: Workspace, columns: dict[str, object], message: str
):
    Workspace.objects.filter(pk=workspace.pk).update(**columns)

    answer = ask("GET", f"{url}/")

    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == f"The workspace 'lab' {message}"
    assert int(answer.headers["retry-after"]) > 0


def test_a_person_gets_a_page_that_looks_again(url: str, workspace: Workspace):
    Workspace.objects.update(name="<b>lab", state="initializing")

    answer = ask("GET", f"{url}/", headers={"accept": "text/html,*/*"})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;b&gt;lab" in answer.text and 'http-equiv="refresh"' in answer.text


@pytest.mark.parametrize("public_id", ["wsp_01jz000000000000000000000a", "dep_1", "a%00b", "..%2f.."])
def test_an_unknown_workspace_is_not_there(gateway: str, market: Market, public_id: str):
    answer = ask("GET", f"{gateway}/workspaces/{public_id}/")

    assert (answer.status_code, answer.json()["error"]["code"][-9:]) in (
        (404, "not_found"),
        (404, "known_url"),
    )


def test_a_pod_that_went_away_is_told_as_such(url: str, serve: Callable[[str], None]):
    serve("127.0.0.1:1")

    answer = ask("GET", f"{url}/")

    assert answer.status_code == 502
    assert "does not answer" in answer.json()["error"]["message"]
