"""Responses, without a store behind them."""

from __future__ import annotations

import json
from typing import Any

from runtimes.contract import Task
from tests.conformance.checks import cases
from tests.conformance.groups.functions import PARAMETERS
from tests.conformance.target import Target, equal, refused

TASK = Task.TEXT_GENERATION
WEATHER = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
NAMED = {"type": "function", "name": "get_weather"}


def respond(target: Target, **fields: Any) -> Any:
    given = {"model": target.model, "input": "What is the capital of France?", "temperature": 0}
    return target.sdk.responses.create(**{**given, "max_output_tokens": 20, **fields})


def check_an_answer_is_a_response(target: Target) -> None:
    answer = respond(target)
    equal((answer.object, answer.status, bool(answer.output_text)), ("response", "completed", True))
    assert answer.id.startswith("resp_")


def check_the_output_is_a_message(target: Target) -> None:
    [message] = respond(target).output
    equal((message.type, message.role, message.content[0].type), ("message", "assistant", "output_text"))


def check_usage_adds_up(target: Target) -> None:
    usage = respond(target).usage
    equal(usage.total_tokens, usage.input_tokens + usage.output_tokens)


def check_a_cut_answer_says_so(target: Target) -> None:
    answer = respond(target, max_output_tokens=2)
    equal((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))


def check_instructions_are_read(target: Target) -> None:
    more = respond(target, instructions="You are a pirate who answers in verse.", max_output_tokens=1)
    assert more.usage.input_tokens != respond(target, max_output_tokens=1).usage.input_tokens


def check_items_are_a_conversation(target: Target) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Say A."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "A."}]},
        {"type": "message", "role": "user", "content": "Say B."},
    ]
    assert respond(target, input=items).output_text


def check_an_output_can_be_sent_back(target: Target) -> None:
    [message] = respond(target).output
    items = [{"role": "user", "content": "Hello"}, message.to_dict(), {"role": "user", "content": "Go on."}]
    assert respond(target, input=items).output_text


def check_events_come_in_their_order(target: Target) -> None:
    events = list(respond(target, stream=True, max_output_tokens=40))
    names = [event.type for event in events]
    deltas = [name for name in names if name == "response.output_text.delta"]
    head = ["response.created", "response.in_progress"]
    opened = ["response.output_item.added", "response.content_part.added"]
    closed = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    equal(names, [*head, *opened, *deltas, *closed, "response.completed"])


def check_events_are_numbered(target: Target) -> None:
    events = list(respond(target, stream=True))
    equal([event.sequence_number for event in events], list(range(len(events))))


def check_a_stream_says_the_same(target: Target) -> None:
    events = list(respond(target, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    equal((text, events[-1].response.output_text), (respond(target).output_text,) * 2)


def check_events_are_named_in_the_stream(target: Target) -> None:
    body = {"model": target.model, "input": "Hello", "stream": True, "max_output_tokens": 2}
    response = target.http.post("/v1/responses", json=body)
    for event in response.text.strip().split("\n\n"):
        name, data = event.split("\n")
        equal(json.loads(data.removeprefix("data: "))["type"], name.removeprefix("event: "))


def check_a_function_is_called(target: Target) -> None:
    [call] = respond(target, tools=[WEATHER], tool_choice=NAMED, max_output_tokens=60).output
    equal((call.type, call.name), ("function_call", "get_weather"))
    equal(set(json.loads(call.arguments)), {"city", "unit"})


def check_arguments_are_streamed(target: Target) -> None:
    events = list(respond(target, tools=[WEATHER], tool_choice=NAMED, max_output_tokens=60, stream=True))
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    equal("".join(deltas), done.arguments)


def check_the_result_of_a_call_is_read(target: Target) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "20 C"}
    answer = respond(target, input=[{"role": "user", "content": "Weather?"}, call, result], tools=[WEATHER])
    assert answer.output


def check_a_schema_is_kept(target: Target) -> None:
    wanted = {"format": {"type": "json_schema", "name": "s", "schema": PARAMETERS, "strict": True}}
    equal(set(json.loads(respond(target, text=wanted, max_output_tokens=60).output_text)), {"city", "unit"})


def check_metadata_comes_back(target: Target) -> None:
    equal(respond(target, metadata={"a": "b"}, max_output_tokens=1).metadata, {"a": "b"})


@cases(
    {
        "storing": ({"store": True}, "store"),
        "an earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
        "the background": ({"background": True}, "background"),
        "an unknown field": ({"max_tokens": 5}, "max_tokens"),
        "no input": ({"input": []}, "input"),
        "a tool of the server": ({"tools": [{"type": "web_search"}]}, "tools"),
        "a picture": (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input",
        ),
        "truncation": ({"truncation": "auto"}, "truncation"),
    }
)
def check_it_refuses(target: Target, case: tuple[dict[str, Any], str]) -> None:
    changes, param = case
    body = {"model": target.model, "input": "Hello", "max_output_tokens": 1}
    refused(target.http.post("/v1/responses", json=body | changes), param=param)
