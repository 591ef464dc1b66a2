"""Functions, formats and probabilities through the official SDK, by a model not trained for any of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from openai import BadRequestError

from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

ASK: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}


def create(server: RunningServer, **fields: Any) -> Any:
    return server.openai.chat.completions.create(**{"model": "chat-demo", "temperature": 0, **fields})


def test_a_required_call_is_valid(text_server: RunningServer) -> None:
    answer = create(
        text_server,
        messages=ASK,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=80,
    )

    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "unit": "C"}


def test_a_format_beside_a_required_call_is_checked_too(text_server: RunningServer) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "town"}}}
    with pytest.raises(BadRequestError) as refused:
        create(text_server, messages=ASK, tools=[WEATHER], tool_choice="required", response_format=wanted)
    assert str(refused.value.param).startswith("response_format.json_schema.schema")


def test_a_named_function_is_called_and_its_arguments_are_streamed(text_server: RunningServer) -> None:
    chunks = list(
        create(
            text_server,
            messages=ASK,
            tools=[WEATHER, CLOCK],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    parts = [call for delta in deltas for call in delta.tool_calls or ()]
    assert parts[0].id.startswith("call_")
    assert (parts[0].type, parts[0].function.name) == ("function", "get_weather")
    assert [(part.id, part.type, part.function.name) for part in parts[1:]] == [(None, None, None)] * (
        len(parts) - 1
    )
    assert len(parts) > 4
    assert json.loads("".join(part.function.arguments for part in parts)) == {"city": "Paris", "unit": "C"}
    assert "".join(delta.content or "" for delta in deltas) == ""
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage.completion_tokens > 10


def test_an_answer_without_calls_is_text(text_server: RunningServer) -> None:
    answer = create(text_server, messages=ASK, tools=[WEATHER], max_tokens=16)
    without = create(text_server, messages=ASK, tools=[WEATHER], tool_choice="none", max_tokens=16)
    plain = create(text_server, messages=ASK, max_tokens=16)

    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content
    assert without.choices == plain.choices
    assert without.usage == plain.usage


def test_the_result_of_a_call_is_read(text_server: RunningServer) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It is 14:35 now."},
    ]

    answer = create(text_server, messages=messages, tools=[CLOCK], max_tokens=40)

    assert "14:35" in answer.choices[0].message.content


def test_an_answer_keeps_its_schema(text_server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 10}, "people": {"enum": [1, 2]}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}

    answer = create(
        text_server, messages=ASK, response_format=wanted, n=2, temperature=1.5, seed=3, max_tokens=60
    )

    for choice in answer.choices:
        content = json.loads(choice.message.content)
        assert set(content) == {"city", "people"}
        assert content["people"] in (1, 2)


def test_an_answer_is_an_object(text_server: RunningServer) -> None:
    answer = create(
        text_server,
        messages=ASK,
        response_format={"type": "json_object"},
        max_tokens=60,
        temperature=1,
        seed=1,
    )

    choice = answer.choices[0]
    assert choice.message.content.startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


def test_probabilities_are_those_of_the_tokens_of_the_text(text_server: RunningServer) -> None:
    whole = create(text_server, messages=ASK, logprobs=True, top_logprobs=3, max_tokens=6).choices[0]
    chunks = create(text_server, messages=ASK, logprobs=True, top_logprobs=3, max_tokens=6, stream=True)

    tokens = whole.logprobs.content
    assert "".join(token.token for token in tokens) == whole.message.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == whole.message.content
    assert all(token.top_logprobs[0].token == token.token for token in tokens)
    assert all(
        token.logprob <= 0 and sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.0001
        for token in tokens
    )
    streamed = [
        token
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in tokens]


def test_tokens_of_a_stop_sequence_are_not_told(text_server: RunningServer) -> None:
    answer = create(text_server, messages=ASK, logprobs=True, stop=[","], max_tokens=30).choices[0]

    assert "".join(token.token for token in answer.logprobs.content) == answer.message.content == "Paris"


def test_completions_have_probabilities_in_their_own_shape(text_server: RunningServer) -> None:
    answer = text_server.openai.completions.create(
        model="chat-demo",
        prompt="The capital of France is",
        max_tokens=3,
        temperature=0,
        logprobs=2,
    ).choices[0]

    assert answer.text == " Paris.\n"
    assert answer.logprobs is not None
    assert answer.logprobs.tokens == [" Paris", ".", "\n"]
    assert answer.logprobs.text_offset == [0, 6, 7]
    assert [max(top, key=lambda token: top[token]) for top in answer.logprobs.top_logprobs or ()] == [
        " Paris",
        ".",
        "\n",
    ]


def test_a_prompt_is_repeated_when_asked(text_server: RunningServer) -> None:
    answer = text_server.openai.completions.create(
        model="chat-demo", prompt=["One, two,", "The"], max_tokens=1, temperature=0, echo=True
    )

    assert [
        choice.text.startswith(prompt)
        for choice, prompt in zip(answer.choices, ["One, two,", "The"], strict=True)
    ] == [
        True,
        True,
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_a_bias_bans_a_token(text_server: RunningServer) -> None:
    first = create(text_server, messages=ASK, max_tokens=1, logprobs=True).choices[0]
    banned = text_server.openai.completions.create(
        model="chat-demo",
        prompt="The capital of France is",
        max_tokens=1,
        temperature=0,
        logit_bias={"7042": -100},
    )

    assert first.message.content == "Paris"
    assert banned.choices[0].text != " Paris"
