"""Chat completions as server-sent events: what the SDK makes of them, and their bytes."""

from __future__ import annotations

import json
from typing import Any

from runtimes.contract import Task
from tests.conformance.groups.chat import ASK, ask
from tests.conformance.target import Target, equal

TASK = Task.TEXT_GENERATION


def stream(target: Target, **fields: Any) -> list[Any]:
    return list(ask(target, stream=True, **fields))


def text_of(target: Target, **fields: Any) -> str:
    given = {"model": target.model, "messages": ASK, "temperature": 0, "max_tokens": 4, "stream": True}
    response = target.http.post("/v1/chat/completions", json=given | fields)
    equal(response.status_code, 200)
    return response.text


def check_a_stream_says_the_same_as_an_answer(target: Target) -> None:
    deltas = [choice.delta.content or "" for chunk in stream(target) for choice in chunk.choices]
    equal("".join(deltas), ask(target).choices[0].message.content)


def check_text_comes_in_pieces(target: Target) -> None:
    deltas = [choice.delta.content for chunk in stream(target) for choice in chunk.choices]
    assert len([delta for delta in deltas if delta]) > 2, deltas


def check_the_role_comes_first(target: Target) -> None:
    roles = [choice.delta.role for chunk in stream(target) for choice in chunk.choices]
    equal([roles[0], *set(roles[1:])], ["assistant", None])


def check_all_events_have_one_id(target: Target) -> None:
    equal(len({chunk.id for chunk in stream(target)}), 1)


def check_events_are_chunks(target: Target) -> None:
    equal({chunk.object for chunk in stream(target)}, {"chat.completion.chunk"})


def check_one_reason_at_the_end(target: Target) -> None:
    reasons = [choice.finish_reason for chunk in stream(target, max_tokens=3) for choice in chunk.choices]
    equal((reasons[-1], set(reasons[:-1])), ("length", {None}))


def check_usage_comes_last_when_asked_for(target: Target) -> None:
    *others, last = stream(target, stream_options={"include_usage": True}, max_tokens=3)
    equal((last.choices, last.usage.completion_tokens), ([], 3))
    equal({chunk.usage for chunk in others}, {None})


def check_usage_of_a_stream_is_that_of_an_answer(target: Target) -> None:
    last = stream(target, stream_options={"include_usage": True}, max_tokens=3)[-1]
    whole = ask(target, max_tokens=3).usage
    equal(
        (last.usage.prompt_tokens, last.usage.total_tokens),
        (whole.prompt_tokens, whole.total_tokens),
    )


def check_no_usage_unless_asked_for(target: Target) -> None:
    assert '"usage":{' not in text_of(target).replace(" ", "")


def check_several_choices_are_told_apart(target: Target) -> None:
    chunks = stream(target, n=2, max_tokens=3)
    equal({choice.index for chunk in chunks for choice in chunk.choices}, {0, 1})


def check_a_stop_never_leaks(target: Target) -> None:
    whole = ask(target, max_tokens=6).choices[0].message.content
    stop = whole[4:9]
    chunks = stream(target, max_tokens=6, stop=stop)
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    equal("".join(deltas), whole[: whole.find(stop)])


def check_the_content_type_is_that_of_events(target: Target) -> None:
    body = {"model": target.model, "messages": ASK, "max_tokens": 1, "stream": True}
    with target.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.headers
        response.read()


def check_the_last_event_is_done(target: Target) -> None:
    assert text_of(target).rstrip("\n").endswith("data: [DONE]"), text_of(target)[-80:]


def check_each_event_is_one_line_of_json(target: Target) -> None:
    *events, end = text_of(target).split("\n\n")
    equal((events[-1], end), ("data: [DONE]", ""))
    for event in events[:-1]:
        assert event.startswith("data: ") and "\n" not in event, event
        json.loads(event.removeprefix("data: "))


def check_whole_characters_in_each_event(target: Target) -> None:
    messages = [{"role": "user", "content": "Repeat: 🦊🦊🦊 日本"}]
    for chunk in stream(target, messages=messages, max_tokens=12):
        for choice in chunk.choices:
            assert choice.finish_reason or "\ufffd" not in (choice.delta.content or "")


def check_an_error_before_the_stream_is_an_error(target: Target) -> None:
    body = {"model": target.model, "messages": [], "stream": True}
    response = target.http.post("/v1/chat/completions", json=body)
    equal((response.status_code, "error" in response.json()), (400, True))
