"""Functions that a model may or must call, and formats that an answer must keep."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from runtimes.contract import Task
from tests.conformance.groups.chat import ask
from tests.conformance.target import Target, equal

TASK = Task.TEXT_GENERATION
WEATHER_ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
CALL = {"id": "call_abc", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def call(target: Target, **fields: Any) -> Any:
    given = {"messages": WEATHER_ASKED, "tools": [WEATHER], "tool_choice": NAMED, "max_tokens": 60}
    return ask(target, **given | fields)


def held(target: Target, schema: dict[str, Any], **fields: Any) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    return json.loads(ask(target, response_format=wanted, max_tokens=60, **fields).choices[0].message.content)


def check_a_named_function_is_called(target: Target) -> None:
    [made] = call(target).choices[0].message.tool_calls
    equal((made.type, made.function.name), ("function", "get_weather"))
    assert made.id


def check_arguments_follow_their_schema(target: Target) -> None:
    [made] = call(target, temperature=1.5, seed=1).choices[0].message.tool_calls
    arguments = json.loads(made.function.arguments)
    equal(set(arguments), {"city", "unit"})
    assert arguments["city"] in ("Paris", "Rome") and arguments["unit"] in ("C", "F")


def check_the_reason_says_that_results_are_awaited(target: Target) -> None:
    equal(call(target).choices[0].finish_reason, "tool_calls")


def check_a_call_alone_has_no_content(target: Target) -> None:
    equal(call(target).choices[0].message.content, None)


def check_a_required_call_is_made(target: Target) -> None:
    message = call(target, tool_choice="required", parallel_tool_calls=False).choices[0].message
    equal(len(message.tool_calls), 1)


def check_none_calls_nothing(target: Target) -> None:
    equal(call(target, tool_choice="none", max_tokens=4).choices[0].message.tool_calls, None)


def check_auto_may_answer_in_words(target: Target) -> None:
    assert call(target, tool_choice="auto", max_tokens=4).choices[0].finish_reason


def check_a_stream_of_a_call_begins_with_its_name(target: Target) -> None:
    chunks = list(call(target, stream=True))
    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
    equal((parts[0].index, parts[0].function.name, parts[0].type), (0, "get_weather", "function"))
    assert parts[0].id and not any(part.id or part.function.name for part in parts[1:])


def check_streamed_arguments_join_to_json(target: Target) -> None:
    chunks = list(call(target, stream=True))
    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
    equal(set(json.loads("".join(part.function.arguments for part in parts))), {"city", "unit"})
    assert len(parts) > 3, "the arguments came in one piece"


def check_a_streamed_call_ends_with_its_reason(target: Target) -> None:
    reasons = [choice.finish_reason for chunk in call(target, stream=True) for choice in chunk.choices]
    equal(reasons[-1], "tool_calls")


def check_a_result_is_read(target: Target) -> None:
    messages = [
        *WEATHER_ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_abc", "content": "14:35"},
    ]
    answer = ask(target, messages=messages, tools=[CLOCK], max_tokens=4)
    assert answer.choices[0].message.content


def check_a_call_can_be_sent_back(target: Target) -> None:
    message = call(target).choices[0].message
    messages = [
        *WEATHER_ASKED,
        message.to_dict(),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "20 C"},
    ]
    assert ask(target, messages=messages, tools=[WEATHER], max_tokens=4).choices


def check_a_function_without_parameters_gets_none(target: Target) -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    [made] = call(target, tools=[CLOCK], tool_choice=named).choices[0].message.tool_calls
    equal(json.loads(made.function.arguments), {})


def check_an_answer_keeps_its_schema(target: Target) -> None:
    equal(set(held(target, PARAMETERS)), {"city", "unit"})


def check_chance_does_not_break_a_schema(target: Target) -> None:
    equal(set(held(target, PARAMETERS, temperature=2, seed=9)), {"city", "unit"})


def check_a_schema_may_refer_to_its_parts(target: Target) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/letter"}},
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"letter": {"enum": ["x", "y"]}},
    }
    assert held(target, schema)["a"] in ("x", "y")


def check_a_streamed_answer_keeps_its_schema(target: Target) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": PARAMETERS}}
    chunks = ask(target, response_format=wanted, max_tokens=60, stream=True)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    equal(set(json.loads(text)), {"city", "unit"})


def check_an_object_is_an_object(target: Target) -> None:
    choice = ask(target, response_format={"type": "json_object"}, max_tokens=40).choices[0]
    assert choice.message.content.startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


def check_pydantic_models_are_parsed(target: Target) -> None:

    class Answer(BaseModel):
        yes: bool

    parsed = target.sdk.chat.completions.parse(
        model=target.model, messages=WEATHER_ASKED, response_format=Answer, temperature=0, max_tokens=30
    )
    assert isinstance(parsed.choices[0].message.parsed, Answer)
