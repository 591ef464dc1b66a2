"""What customers do, through the official SDK and plain HTTP, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest
from django.utils import timezone
from openai import OpenAI

from deployments.gateway.models import RequestCount
from deployments.serving.models import Deployment, DesiredState
from marketplace.accounts.models import Scope
from tests.deployments.gateway.conftest import LIMITS, add_replica
from tests.deployments.gateway.servers import Runtime
from tests.people import Person
from tests.waiting import eventually

Deploy = Callable[..., Deployment]
Start = Callable[..., tuple[Runtime, str]]

QUESTION: Any = [{"role": "user", "content": "Moien"}]


@pytest.fixture
def runtime(runtimes: Start, deploy: Deploy, alice: Person) -> Runtime:
    """The runtime of alice's deployment `chat`."""
    runtime, address = runtimes()
    deploy(alice.organization, "chat", address)
    return runtime


def test_the_sdk_chats(runtime: Runtime, client: OpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=QUESTION)
    assert answer.choices[0].message.content == "Hello from one"
    assert answer.usage is not None and answer.usage.total_tokens == 8


def test_the_sdk_streams_a_chat(runtime: Runtime, client: OpenAI) -> None:
    stream = client.chat.completions.create(model="chat", messages=QUESTION, stream=True)
    words = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert words == ["Hello", " from", " one"]


def test_the_sdk_completes_and_embeds(runtime: Runtime, client: OpenAI) -> None:
    assert client.completions.create(model="chat", prompt="a").choices[0].text == "and so on"
    embedded = client.embeddings.create(model="chat", input="a", encoding_format="float")
    assert embedded.data[0].embedding == [0.5, -0.5]


def test_a_file_passes_as_multipart(runtime: Runtime, client: OpenAI) -> None:
    sound = bytes(range(256)) * 20
    answer = client.audio.transcriptions.create(model="chat", file=("a.wav", sound))
    assert answer.text == "5120 bytes for chat"


def test_the_id_of_a_deployment_names_it_too(runtime: Runtime, client: OpenAI) -> None:
    deployment = Deployment.objects.get()
    answer = client.chat.completions.create(model=deployment.public_id, messages=QUESTION)
    client.audio.transcriptions.create(model=deployment.public_id, file=("a.wav", b"sound"))
    assert answer.model == "chat", "the runtime knows its model by the deployment's name"
    assert runtime.seen[0].json == {"messages": QUESTION, "model": "chat"}


def test_models_are_the_deployments_of_the_organization(
    runtime: Runtime, client: OpenAI, deploy: Deploy, alice: Person, charlie: Person
) -> None:
    deploy(charlie.organization, "secret")
    deploy(alice.organization, "gone", deleted_at=timezone.now())
    deploy(alice.organization, "leaving", desired_state=DesiredState.DELETED)
    chat = Deployment.objects.get(name="chat")
    assert [model.to_dict() for model in client.models.list()] == [
        {
            "id": "chat",
            "object": "model",
            "created": int(chat.created_at.timestamp()),
            "owned_by": "acme",
            "deployment": chat.public_id,
            "state": "running",
        }
    ]
    assert client.models.retrieve("chat").id == "chat"


def test_a_stranger_finds_nothing(
    runtime: Runtime, gateway: str, http: httpx.Client, charlie: Person
) -> None:
    """Another organization's deployment and one that never was are told apart by nothing."""
    theirs = Deployment.objects.get().public_id
    stranger = httpx.Client(
        base_url=gateway, headers={"Authorization": f"Bearer {charlie.key()[1]}"}, trust_env=False
    )
    with stranger:
        assert stranger.get("/v1/models").json() == {"object": "list", "data": []}
        for path in ("chat/completions", "completions", "embeddings", "audio/transcriptions", "anything"):
            for model in ("chat", theirs):
                hidden = stranger.post(f"/v1/{path}", json={"model": model})
                unknown = stranger.post(f"/v1/{path}", json={"model": "never-was"})
                assert (hidden.status_code, hidden.text.replace(model, "never-was")) == (404, unknown.text)
        for model in ("chat", theirs):
            hidden = stranger.get(f"/v1/models/{model}")
            unknown = stranger.get("/v1/models/never-was")
            assert (hidden.status_code, hidden.text.replace(model, "never-was")) == (404, unknown.text)
    assert unknown.json()["error"] == {
        "message": "The model 'never-was' does not exist or you do not have access to it. "
        "GET /v1/models lists what this key can call.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert runtime.seen == []


def test_half_a_character_is_told_as_it_was_written(runtime: Runtime, http: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    response = http.post("/v1/chat/completions", content=b'{"model": "\\ud83d"}', headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    named_by_id = b'{"model": "%s", "messages": "\\ud83d"}' % Deployment.objects.get().public_id.encode()
    http.post("/v1/chat/completions", content=named_by_id, headers=headers)
    assert [json.loads(seen.body)["messages"] for seen in runtime.seen] == ["\ud83d"]


def test_the_key_never_reaches_the_runtime(runtime: Runtime, http: httpx.Client, secret: str) -> None:
    http.post(
        "/v1/chat/completions",
        json={"model": "chat", "messages": QUESTION},
        headers={"X-Api-Key": secret, "Cookie": f"key={secret}", "X-Request-Id": "my-call-1"},
        params={"key": secret},
    )
    (seen,) = runtime.seen
    assert secret not in str(seen)
    assert seen.headers["x-request-id"] == "my-call-1"


def test_every_answer_carries_the_request_id(runtime: Runtime, http: httpx.Client) -> None:
    given = {"X-Request-Id": "my-call-2"}
    answers = [
        http.post("/v1/chat/completions", json={"model": "chat", "messages": QUESTION}, headers=given),
        http.post("/v1/chat/completions", json={}, headers=given),
        http.get("/v1/models", headers=given),
        http.get("/nowhere", headers=given),
    ]
    assert [answer.headers["x-request-id"] for answer in answers] == ["my-call-2"] * 4
    assert http.get("/v1/models", headers={"X-Request-Id": "no good"}).headers["x-request-id"][:4] == "req_"


def test_it_refuses_keys_that_are_not_good(
    runtime: Runtime, gateway: str, alice: Person, http: httpx.Client
) -> None:
    key, revoked = alice.key()
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    expired = alice.key(expires_at=timezone.now() - timedelta(seconds=1))[1]
    reader = alice.key(scopes=[Scope.READ])[1]
    answers = {}
    for case, header in {
        "none": None,
        "empty": "Bearer",
        "other scheme": "Basic YTpi",
        "unknown": "Bearer mk_aaaaaaaa_nothing",
        "not ascii": "Bearer mk_\xe9".encode("latin-1"),
        "revoked": f"Bearer {revoked}",
        "expired": f"Bearer {expired}",
        "without the scope": f"Bearer {reader}",
    }.items():
        headers: Any = {"Authorization": header} if header else {}
        answer = httpx.post(
            f"{gateway}/v1/embeddings", json={"model": "chat"}, headers=headers, trust_env=False
        )
        answers[case] = (answer.status_code, answer.json()["error"]["code"])
    assert answers == {
        "none": (401, "missing_api_key"),
        "empty": (401, "missing_api_key"),
        "other scheme": (401, "missing_api_key"),
        "unknown": (401, "invalid_api_key"),
        "not ascii": (401, "invalid_api_key"),
        "revoked": (401, "invalid_api_key"),
        "expired": (401, "invalid_api_key"),
        "without the scope": (403, "insufficient_scope"),
    }
    assert runtime.seen == []


def test_a_revoked_key_stops_within_the_age_of_the_cache(
    runtime: Runtime, gateway: str, alice: Person
) -> None:
    key, secret = alice.key()

    def status() -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.get(f"{gateway}/v1/models", headers=headers, trust_env=False).status_code

    assert status() == 200
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    eventually(lambda: status() == 401, within=LIMITS.key_age + 5)
    key.refresh_from_db()
    assert key.last_used_at is not None


BAD_BODIES = [
    ("not JSON", "application/json", b"{", "invalid_json", "not valid JSON"),
    ("empty", "application/json", b"", "invalid_json", "not valid JSON"),
    ("a list", "application/json", b"[]", "invalid_json", "must be a JSON object"),
    ("too deep", "application/json", b"[" * 90_000, "invalid_json", "nested too deeply"),
    ("bad UTF-8", "application/json", b'{"model": "\xff"}', "invalid_utf8", "byte 11 is 0xff"),
    ("no model", "application/json", b"{}", "missing_model", "names no model"),
    ("number", "application/json", b'{"model": 1}', "invalid_model", "must be a string"),
    ("text", "text/plain", b"{}", "unsupported_content_type", "text/plain"),
    ("no boundary", "multipart/form-data", b"x", "invalid_multipart", "cannot be read"),
    ("garbage", "multipart/form-data; boundary=b", b"x", "invalid_multipart", "cannot be read"),
    ("cut", "multipart/form-data; boundary=b", b"--b\r\n", "invalid_multipart", "ends before"),
    ("no field", "multipart/form-data; boundary=b", b"--b--\r\n", "missing_model", "names no model"),
]


def test_a_bad_body_gets_one_clear_error(runtime: Runtime, http: httpx.Client) -> None:
    for case, content_type, body, code, says in BAD_BODIES:
        answer = http.post("/v1/chat/completions", content=body, headers={"Content-Type": content_type})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code), case
        assert says in error["message"], case
    assert runtime.seen == []


def test_a_body_of_100_mb_is_refused_and_the_caller_can_read_why(
    runtime: Runtime, http: httpx.Client
) -> None:
    declared = http.post("/v1/chat/completions", content=bytes(100_000_000))
    chunked = http.post("/v1/chat/completions", content=(bytes(1_000_000) for _ in range(100)))
    for answer in (declared, chunked):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert runtime.seen == []


def test_an_unknown_url_is_told_in_the_shape_of_the_protocol(runtime: Runtime, http: httpx.Client) -> None:
    for method, path in [
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/chat/completions"),
        ("POST", "/chat/completions"),
        ("POST", "/v1/"),
        ("POST", "/v1/%2e%2e/metrics"),
        ("POST", "/v1/a//b"),
    ]:
        answer = http.request(method, path, json={"model": "chat"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url"), path
    assert runtime.seen == []


def test_the_runtime_s_own_errors_pass_as_the_sdk_s(runtime: Runtime, client: OpenAI) -> None:
    runtime.status = 400
    runtime.error = {"error": {"message": "too hot", "type": "x", "param": "temperature", "code": "range"}}
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="chat", messages=QUESTION)
    assert refusal.value.body == runtime.error["error"]


def test_a_full_runtime_says_when_to_come_back(runtime: Runtime, client: OpenAI) -> None:
    runtime.status = 429
    runtime.error = {"error": {"message": "full", "type": "x", "param": None, "code": "queue_full"}}
    with pytest.raises(openai.RateLimitError) as refusal:
        client.chat.completions.create(model="chat", messages=QUESTION)
    assert refusal.value.response.headers["retry-after"] == "7"


def test_an_error_that_is_no_openai_error_becomes_one(runtime: Runtime, client: OpenAI) -> None:
    runtime.status, runtime.error = 500, {"detail": "Traceback of somebody's code"}
    with pytest.raises(openai.InternalServerError) as refusal:
        client.chat.completions.create(model="chat", messages=QUESTION)
    assert refusal.value.body == {
        "message": "The model's runtime answered with status 500.",
        "type": "server_error",
        "param": None,
        "code": "upstream_error",
    }


@pytest.mark.parametrize(
    ("columns", "retry_after", "message"),
    [
        (
            {
                "state": "pending",
                "conditions": [
                    {"type": "Ready", "status": "False", "message": "older", "since": "2026-01-01"},
                    {
                        "type": "Capacity",
                        "status": "False",
                        "message": "waits for 1 free node of cpu-2.",
                        "since": "2026-01-02",
                    },
                ],
            },
            "15",
            "The deployment 'slow' is waiting for capacity: waits for 1 free node of cpu-2.",
        ),
        ({"state": "initializing"}, "5", "The deployment 'slow' is initializing."),
        (
            {"state": "running", "desired_state": "paused"},
            "60",
            "The deployment 'slow' is paused. Resume it to call it.",
        ),
        ({"state": "failed"}, "60", "The deployment 'slow' is failed."),
        ({"state": "running"}, "2", "The deployment 'slow' has no ready replica at the moment."),
    ],
)
def test_a_deployment_that_does_not_serve_says_its_state_and_reason(
    http: httpx.Client,
    deploy: Deploy,
    alice: Person,
    columns: dict[str, Any],
    retry_after: str,
    message: str,
) -> None:
    deployment = deploy(alice.organization, "slow", **columns)
    add_replica(deployment, "127.0.0.1:9", ready=False)
    add_replica(deployment, "127.0.0.1:9", finished_at=timezone.now())
    add_replica(deployment, "127.0.0.1:9", vanished_at=timezone.now())
    add_replica(deployment, "")
    answer = http.post("/v1/chat/completions", json={"model": "slow"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, retry_after)
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["code"] == "model_not_ready"


def test_the_serving_revision_answers_while_the_next_one_comes_up(
    http: httpx.Client, runtimes: Start, deploy: Deploy, alice: Person
) -> None:
    (_, old_address), (_, new_address) = runtimes("old"), runtimes("new")
    deployment = deploy(alice.organization, "chat", old_address, state="updating")
    add_replica(deployment, new_address, revision=2)

    def answered_by() -> str:
        answer = http.post("/v1/chat/completions", json={"model": "chat", "messages": QUESTION})
        return str(answer.json()["choices"][0]["message"]["content"])

    assert {answered_by() for _ in range(6)} == {"Hello from old"}
    Deployment.objects.update(serving_revision=2)
    eventually(lambda: answered_by() == "Hello from new")


def test_calls_and_tokens_are_counted_by_minute(
    runtime: Runtime, client: OpenAI, http: httpx.Client, alice: Person
) -> None:
    for stream in (False, True):
        answer: Any = client.chat.completions.create(model="chat", messages=QUESTION, stream=stream)
        if stream:
            list(answer)
    http.post("/v1/embeddings", json={"model": "chat", "input": "a"})
    runtime.status, runtime.error = 400, {"error": {"message": "no"}}
    http.post("/v1/chat/completions", json={"model": "chat", "messages": QUESTION})
    wanted = {"requests": 4, "errors": 1, "input_tokens": 5 + 5 + 4, "output_tokens": 3 + 3}

    def counted() -> dict[str, int]:
        totals = dict.fromkeys(wanted, 0)
        for count in RequestCount.objects.all():
            assert count.resource == Deployment.objects.get().public_id
            assert count.organization == alice.organization
            totals[count.meter] += count.count
        return totals

    eventually(lambda: counted() == wanted)


def test_it_tells_that_it_lives_is_ready_and_how_it_does(runtime: Runtime, http: httpx.Client) -> None:
    http.post("/v1/chat/completions", json={"model": "chat", "messages": QUESTION})
    http.post("/v1/chat/completions", json={})
    assert [http.get(path).text for path in ("/live", "/ready")] == ["live\n", "ready\n"]
    page = http.get("/metrics").text
    assert 'gateway_calls_total{status="200"} 1.0' in page
    assert 'gateway_calls_total{status="400"} 1.0' in page
    assert "gateway_calls_in_progress 0.0" in page
