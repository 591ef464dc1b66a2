"""Every wrong request gets one clear error in the shape of the OpenAI protocol, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtimes.contract import RESOURCE_HEADER
from runtimes.server.bodies import MAX_BODY_BYTES
from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "chat-demo", "messages": HELLO, "max_tokens": 1}
TEXT = {"model": "chat-demo", "prompt": "Hello", "max_tokens": 1}
INPUT = {"model": "embed-demo", "input": "Hello"}


def tool(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def schema(content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": content}}


def call(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def refuse(server: RunningServer, path: str, body: Any) -> tuple[int, str, str | None, str | None]:
    """Status, message, param and code of the answer, whose shape is checked."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with server.http as http:
        response = http.post(path, content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert response.json() == {"error": error}
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return response.status_code, error["message"], error["param"], error["code"]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"temprature": 1}, "temprature", "unsupported_parameter"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"metadata": {"a": "b"}}, "metadata", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "missing_required_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "invalid_value"),
        ({"tools": [tool({}), tool({})]}, "tools.1", "invalid_value"),
        (
            {"tools": [tool({"type": "object", "properties": {"a": {"type": "text"}}})]},
            "tools.0.function.parameters.properties.a",
            "invalid_function_parameters",
        ),
        (
            {"tools": [tool({"type": "array"})]},
            "tools.0.function.parameters.type",
            "invalid_function_parameters",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "sometimes"}, "tool_choice.type", "invalid_value"),
        (
            {"tools": [tool({})], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": schema({"type": "object", "properties": {"a": {"items": {"not": {}}}}})},
            "response_format.json_schema.schema.properties.a.items",
            "invalid_json_schema",
        ),
        ({"logprobs": 2}, "logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value"),
        ({"logit_bias": {"999999": 1}}, "logit_bias.999999", "invalid_value"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word.[key]", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": "0.5"}, "temperature", "invalid_value"),
        ({"temperature": float("nan")}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"n": 10000}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"seed": 2**70}, "seed", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop.0", "invalid_value"),
        ({"stream": 1}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"usage": True}},
            "stream_options.usage",
            "unsupported_parameter",
        ),
        ({"max_completion_tokens": 2}, None, "invalid_value"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "invalid_value"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "invalid_value"),
        (
            {"messages": [*HELLO, {"role": "tool", "content": "x", "tool_call_id": "unknown"}]},
            "messages.1.tool_call_id",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [call("{")]}]},
            "messages.0.tool_calls.0.function.arguments",
            "invalid_value",
        ),
        ({"messages": [{**HELLO[0], "name": "bob"}]}, "messages.0.name", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
            "invalid_value",
        ),
        ({"max_tokens": 600}, "max_tokens", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, "messages", "context_length_exceeded"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None,
)
def test_a_wrong_field_is_named(
    text_server: RunningServer, changes: dict[str, Any], param: str | None, code: str
) -> None:
    status, message, named, given = refuse(text_server, "/v1/chat/completions", CHAT | changes)

    assert (status, named, given) == (400, param, code), message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": [[1, -5]]}, "prompt"),
        ({"prompt": [99_999_999]}, "prompt.0"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 6}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": ["a"] * 5}, "n"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None,
)
def test_a_wrong_prompt_is_refused(text_server: RunningServer, changes: dict[str, Any], param: str) -> None:
    status, message, named, _ = refuse(text_server, "/v1/completions", TEXT | changes)

    assert (status, named) == (400, param), message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [99_999_999]}, "input.0"),
        ({"input": ["fine", "word " * 300]}, "input.1"),
        ({"dimensions": 100}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"truncate": True}, "truncate"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None,
)
def test_a_wrong_embeddings_request_is_refused(
    embedding_server: RunningServer, changes: dict[str, Any], param: str
) -> None:
    status, message, named, _ = refuse(embedding_server, "/v1/embeddings", INPUT | changes)

    assert (status, named) == (400, param), message


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b'{"model":', 400, "invalid_json"),
        (b'{"model": "\xff"}', 400, "invalid_json"),
        (b"[]", 400, "invalid_value"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "request_too_large"),
    ],
    ids=["empty", "cut", "not UTF-8", "a list", "deeply nested", "too large"],
)
def test_a_body_that_is_no_request_is_refused(
    text_server: RunningServer, content: bytes, status: int, code: str
) -> None:
    answered, message, _, given = refuse(text_server, "/v1/chat/completions", content)

    assert (answered, given) == (status, code), message


def test_a_body_of_unknown_length_is_cut_off_too(text_server: RunningServer) -> None:
    with text_server.http as http:
        response = http.post(
            "/v1/chat/completions", content=(b" " * 2**20 for _ in range(MAX_BODY_BYTES // 2**20 + 1))
        )

    assert response.status_code == 413


def test_values_that_change_nothing_are_accepted(text_server: RunningServer) -> None:
    neutral: dict[str, Any] = {
        "tools": [],
        "tool_choice": None,
        "response_format": {"type": "text"},
        "logprobs": False,
        "n": None,
        "stop": None,
        "user": "bob",
    }
    with text_server.http as http:
        response = http.post("/v1/chat/completions", json=CHAT | neutral)

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/embeddings", 404), ("GET", "/v1/chat/completions", 405), ("GET", "/etc/passwd", 404)],
)
def test_an_unknown_route_says_what_there_is(
    text_server: RunningServer, method: str, path: str, status: int
) -> None:
    with text_server.http as http:
        response = http.request(method, path)

    assert (response.status_code, response.json()["error"]["code"]) == (status, "unknown_url")


def test_an_encoder_says_what_it_does(embedding_server: RunningServer) -> None:
    status, message, _, code = refuse(embedding_server, "/v1/chat/completions", CHAT)

    assert (status, code) == (404, "unknown_url")
    assert message == (
        "There is no /v1/chat/completions here: "
        "this server does feature-extraction and answers /v1/embeddings."
    )


def test_a_request_that_is_meant_for_another_deployment_is_refused(text_server: RunningServer) -> None:
    """A gateway's table may still have the address of a pod that is gone, which this one has got since."""
    with text_server.http as http:

        def status(**headers: str) -> int:
            return http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code

        refused = http.post("/v1/chat/completions", json=CHAT, headers={RESOURCE_HEADER: "dep_other"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "misdirected")
        assert [status(), status(**{RESOURCE_HEADER: "dep_demo"})] == [200, 200]
        assert http.get("/ready", headers={RESOURCE_HEADER: "dep_other"}).status_code == 200
