"""Newer parts of the protocol on their way through the gateway: nothing of them gets lost, and they count."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI

from deployments.gateway.models import RequestCount
from deployments.serving.models import Deployment
from tests.deployments.gateway.servers import Runtime
from tests.people import Person
from tests.waiting import eventually

QUESTION: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


@pytest.fixture
def runtime(
    runtimes: Callable[..., tuple[Runtime, str]], deploy: Callable[..., Deployment], alice: Person
) -> Runtime:
    """The runtime of alice's deployment `chat`."""
    runtime, address = runtimes()
    deploy(alice.organization, "chat", address)
    return runtime


def counted(meter: str) -> int:
    return sum(count.count for count in RequestCount.objects.filter(meter=meter))


def test_a_call_is_asked_for_and_streamed_piece_by_piece(runtime: Runtime, client: OpenAI) -> None:
    named = {"name": "get_weather", "arguments": ""}
    fragments = ['{"city"', ': "Pa', 'ris"}']
    parts: list[dict[str, Any]] = [
        {"index": 0, "id": "call_1", "type": "function", "function": named},
        *({"index": 0, "function": {"arguments": fragment}} for fragment in fragments),
    ]
    deltas = [*({"tool_calls": [part]} for part in parts), {}]
    runtime.script = "".join(
        f"data: {json.dumps(chunk_of(delta, reason=None if delta else 'tool_calls'))}\n\n" for delta in deltas
    )
    runtime.script += "data: [DONE]\n\n"

    chunks = list(
        client.chat.completions.create(
            model="chat", messages=QUESTION, tools=[WEATHER], tool_choice="required", stream=True
        )
    )

    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert (calls[0].id, calls[0].function and calls[0].function.name) == ("call_1", "get_weather")
    assert [call.function and call.function.arguments for call in calls] == ["", *fragments]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    [seen] = runtime.seen
    assert (seen.json["tools"], seen.json["tool_choice"]) == ([WEATHER], "required")


def test_a_response_keeps_the_names_of_its_events_and_is_counted(runtime: Runtime, client: OpenAI) -> None:
    delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Hi", "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
        {"type": "response.output_text.delta", **delta},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": USAGE}},
    ]
    runtime.script = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    raw = client.responses.with_raw_response.create(model="chat", input="Hello", stream=True)
    told = [event.to_dict() for event in raw.parse()]

    assert told == events
    eventually(lambda: counted("output_tokens") == 5)
    assert counted("input_tokens") == 7


def chunk_of(delta: dict[str, Any], *, reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    return {**head, "choices": [choice]}
