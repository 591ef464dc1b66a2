"""What must be refused, by a 4xx in the protocol's shape that names the field: never ignored, never a 500."""

from __future__ import annotations

from typing import Any

import openai

from runtimes.contract import Task
from tests.conformance.checks import cases
from tests.conformance.groups.chat import ASK, ask
from tests.conformance.target import Target, equal, refused

TASK = Task.TEXT_GENERATION
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]
STRAY = {"role": "tool", "tool_call_id": "nobody", "content": "x"}
BAD_SCHEMA = {"type": "object", "properties": {"a": {"type": "text"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": BAD_SCHEMA, "strict": True}}
LONG = [{"role": "user", "content": "a b " * 90_000}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": BAD_SCHEMA}}


@cases(
    {
        "an unknown field": ({"temprature": 1}, "temprature"),
        "audio": ({"modalities": ["text", "audio"]}, "modalities"),
        "web search": ({"web_search_options": {}}, "web_search_options"),
        "a prediction": ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        "storing": ({"store": True}, "store"),
        "reasoning": ({"reasoning_effort": "high"}, "reasoning_effort"),
        "verbosity": ({"verbosity": "low"}, "verbosity"),
        "old functions": ({"functions": [{"name": "f"}]}, "functions"),
        "negative temperature": ({"temperature": -1}, "temperature"),
        "temperature over 2": ({"temperature": 2.1}, "temperature"),
        "temperature as text": ({"temperature": "0.5"}, "temperature"),
        "top_p over 1": ({"top_p": 1.5}, "top_p"),
        "penalty over 2": ({"frequency_penalty": 3}, "frequency_penalty"),
        "n of 0": ({"n": 0}, "n"),
        "n of 10000": ({"n": 10000}, "n"),
        "n of 1.5": ({"n": 1.5}, "n"),
        "max_tokens of 0": ({"max_tokens": 0}, "max_tokens"),
        "more than the context": ({"max_tokens": 10_000_000}, "max_tokens"),
        "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        "an empty stop": ({"stop": [""]}, "stop"),
        "stream as a number": ({"stream": 1}, "stream"),
        "stream_options without stream": ({"stream_options": {"include_usage": True}}, "stream_options"),
        "top_logprobs without logprobs": ({"top_logprobs": 2}, "top_logprobs"),
        "21 likely tokens": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        "bias over 100": ({"logit_bias": {"5": 101}}, "logit_bias"),
        "bias of no token": ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        "no messages": ({"messages": None}, "messages"),
        "empty messages": ({"messages": []}, "messages"),
        "an unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
        "a message without content": ({"messages": [{"role": "user"}]}, "messages"),
        "a picture": ({"messages": [{"role": "user", "content": IMAGE}]}, "messages"),
        "a result without a call": ({"messages": [*ASK, STRAY]}, "messages"),
        "a prompt over the context": ({"messages": LONG}, "messages"),
        "an unknown format": ({"response_format": {"type": "yaml"}}, "response_format"),
        "a schema that is none": ({"response_format": FORMAT}, "response_format"),
        "parameters that are no schema": ({"tools": [TOOL]}, "tools"),
        "an unknown kind of tool": ({"tools": [{"type": "web_search"}]}, "tools"),
        "a choice without tools": ({"tool_choice": "required"}, "tool_choice"),
    }
)
def check_it_refuses(target: Target, case: tuple[dict[str, Any], str]) -> None:
    changes, param = case
    body = {"model": target.model, "messages": ASK, "max_tokens": 1}
    refused(target.http.post("/v1/chat/completions", json=body | changes), param=param)


def check_a_schema_is_refused_at_its_place(target: Target) -> None:
    body = {"model": target.model, "messages": ASK, "max_tokens": 1, "response_format": FORMAT}
    error = refused(target.http.post("/v1/chat/completions", json=body))
    equal(error["param"], "response_format.json_schema.schema.properties.a")


def check_another_model_is_not_found(target: Target) -> None:
    try:
        ask(target, model="no-such-model")
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found")
    else:
        raise AssertionError("it answered")


def check_an_unknown_route_is_not_found(target: Target) -> None:
    refused(target.http.post("/v1/no-such-route", json={}), status=404)


def check_a_get_is_not_a_post(target: Target) -> None:
    refused(target.http.get("/v1/chat/completions"), status=(404, 405))


def check_the_sdk_raises_bad_request(target: Target) -> None:
    try:
        ask(target, temperature=9)
    except openai.BadRequestError as error:
        equal(error.param, "temperature")
    else:
        raise AssertionError("it answered")


@cases(
    {
        "nothing": b"",
        "half an object": b'{"model":',
        "bytes that are no text": b'{"model": "\xff"}',
        "a list": b"[]",
        "a hundred thousand brackets": b"[" * 100_000,
        "a number that is none": b'{"model": NaN}',
    }
)
def check_a_body_is_refused(target: Target, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(target.http.post("/v1/chat/completions", content=content, headers=headers))


def check_it_goes_on_after_all_this(target: Target) -> None:
    assert ask(target, max_tokens=1).choices
