"""Chat and completions through the official SDK, against a real process with real weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from tokenizers import Tokenizer

from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

CAPITAL: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
COUNT: list[Any] = [{"role": "user", "content": "Count from one to nine: 1, 2,"}]


def test_it_answers_a_chat(text_server: RunningServer) -> None:
    answer = text_server.openai.chat.completions.create(model="chat-demo", messages=CAPITAL, temperature=0)

    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "The capital of France is Paris.",
        "stop",
    )
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45}


def test_a_stream_says_the_same_as_a_whole_answer(text_server: RunningServer) -> None:
    chunks = list(
        text_server.openai.chat.completions.create(
            model="chat-demo",
            messages=CAPITAL,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "The capital of France is Paris."
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    *others, last = chunks
    assert [chunk.usage for chunk in others] == [None] * len(others)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.to_dict() == {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45}


def test_a_stream_is_events_that_end_with_done(text_server: RunningServer) -> None:
    body = {"model": "chat-demo", "messages": CAPITAL, "stream": True, "max_tokens": 2, "temperature": 0}
    with text_server.http as http:
        response = http.post("/v1/chat/completions", json=body)

    events = response.text.split("\n\n")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert all(event.startswith('data: {"id":"chatcmpl-') for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]
    assert "usage" not in response.text


def test_a_limit_and_a_stop_sequence_end_the_answer(text_server: RunningServer) -> None:
    create = text_server.openai.chat.completions.create
    limited = create(model="chat-demo", messages=CAPITAL, temperature=0, max_completion_tokens=3)
    stopped = create(model="chat-demo", messages=CAPITAL, temperature=0, stop=[" Lyon", "s Par", "is Pa"])

    assert [
        (answer.choices[0].message.content, answer.choices[0].finish_reason) for answer in (limited, stopped)
    ] == [
        ("The capital of", "length"),
        ("The capital of France ", "stop"),
    ]
    assert limited.usage is not None
    assert limited.usage.completion_tokens == 3


def test_a_seed_repeats_an_answer_and_the_choices_differ(text_server: RunningServer) -> None:
    def ask(seed: int, n: int) -> list[str | None]:
        answer = text_server.openai.chat.completions.create(
            model="chat-demo", messages=CAPITAL, temperature=1.5, seed=seed, n=n, max_tokens=12
        )
        return [choice.message.content for choice in answer.choices]

    two = ask(7, 2)

    assert two == [*ask(7, 1), *ask(8, 1)]
    assert two[0] != two[1]


def test_choices_count_the_prompt_once_and_every_answer(text_server: RunningServer) -> None:
    answer = text_server.openai.chat.completions.create(
        model="chat-demo", messages=CAPITAL, temperature=0, n=3, max_tokens=4
    )

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"prompt_tokens": 37, "completion_tokens": 12, "total_tokens": 49}


def test_it_completes_several_prompts_as_text_or_tokens(
    text_server: RunningServer, smollm_folder: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(smollm_folder / "tokenizer.json"))
    ids = tokenizer.encode("The capital of Germany is").ids
    create = text_server.openai.completions.create
    texts = create(
        model="chat-demo", prompt=["The capital of Germany is", "Hello"], temperature=0, max_tokens=3
    )
    tokens = create(model="chat-demo", prompt=ids, temperature=0, max_tokens=3)

    assert [choice.index for choice in texts.choices] == [0, 1]
    assert texts.choices[0].text == tokens.choices[0].text == " Berlin.\n"
    assert texts.usage is not None
    assert texts.usage.completion_tokens == 6


def test_characters_of_several_tokens_arrive_whole(text_server: RunningServer) -> None:
    chunks = list(
        text_server.openai.completions.create(
            model="chat-demo", prompt="日本語の文字：東京、大阪、", temperature=0, max_tokens=24, stream=True
        )
    )
    whole = text_server.openai.completions.create(
        model="chat-demo", prompt="日本語の文字：東京、大阪、", temperature=0, max_tokens=24
    )

    pieces = [chunk.choices[0].text for chunk in chunks]
    assert "".join(pieces) == whole.choices[0].text
    assert any(ord(character) > 0x2000 for character in whole.choices[0].text)
    assert not any("\ufffd" in piece for piece in pieces[:-2])


def test_requests_at_once_get_their_own_answers(text_server: RunningServer) -> None:
    def ask(city: str) -> str:
        answer = text_server.openai.chat.completions.create(
            model="chat-demo",
            messages=[{"role": "user", "content": f"Repeat this word: {city}"}],
            temperature=0,
            max_tokens=12,
        )
        return answer.choices[0].message.content or ""

    cities = ["Paris", "London", "Madrid", "Vienna"]
    alone = [ask(city) for city in cities]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(ask, cities))

    assert together == alone
    assert len(set(together)) == 4


def test_messages_of_an_earlier_answer_can_be_sent_back(text_server: RunningServer) -> None:
    create = text_server.openai.chat.completions.create
    first = create(model="chat-demo", messages=CAPITAL, temperature=0).choices[0].message
    followed: list[Any] = [
        {"role": "developer", "content": "You answer briefly."},
        *CAPITAL,
        first.to_dict(),
        {"role": "user", "content": [{"type": "text", "text": "And of Italy?"}]},
    ]

    answer = create(model="chat-demo", messages=followed, temperature=0, max_tokens=24)

    assert "Rome" in (answer.choices[0].message.content or "")


def test_the_sdk_raises_its_own_errors(text_server: RunningServer) -> None:
    create = text_server.openai.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="another", messages=CAPITAL)
    with pytest.raises(openai.BadRequestError) as unsupported:
        create(model="chat-demo", messages=CAPITAL, reasoning_effort="low")
    with pytest.raises(openai.NotFoundError) as elsewhere:
        text_server.openai.embeddings.create(model="chat-demo", input="text")

    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", "reasoning_effort")
    assert "this server does text-generation and answers /v1/chat/completions" in str(elsewhere.value)


def test_it_lists_its_model(text_server: RunningServer) -> None:
    assert [model.id for model in text_server.openai.models.list()] == ["chat-demo"]
    assert text_server.openai.models.retrieve("chat-demo").object == "model"
    with pytest.raises(openai.NotFoundError):
        text_server.openai.models.retrieve("another")


def test_info_tells_what_serves_and_that_memory_stayed_below_the_prediction(
    text_server: RunningServer,
) -> None:
    with text_server.http as http:
        info = http.get("/info").json()

    memory = info.pop("memory")
    assert {key: info[key] for key in ("model", "revision", "task", "phase", "engine", "precision")} == {
        "model": "chat-demo",
        "revision": "0" * 40,
        "task": "text-generation",
        "phase": "ready",
        "engine": "transformers-continuous-batching",
        "precision": "float32",
    }
    assert (info["context_length"], info["parameters"], info["adapter"]) == (512, 134_515_008, False)
    assert 0.5 * memory["predicted_bytes"] < memory["measured_peak_bytes"] < memory["predicted_bytes"]


def test_metrics_count_tokens_and_requests(text_server: RunningServer) -> None:
    before = [text_server.meter(f"runtime_{name}_tokens_total") for name in ("prompt", "completion")]
    first_tokens = text_server.meter("runtime_time_to_first_token_seconds_count")
    between_tokens = text_server.meter("runtime_inter_token_seconds_count")

    text_server.openai.chat.completions.create(
        model="chat-demo", messages=CAPITAL, temperature=0, max_tokens=5
    )

    after = [text_server.meter(f"runtime_{name}_tokens_total") for name in ("prompt", "completion")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [37, 5]
    assert text_server.meter("runtime_time_to_first_token_seconds_count") == first_tokens + 1
    assert text_server.meter("runtime_inter_token_seconds_count") == between_tokens + 4
    assert text_server.meter("runtime_running") == text_server.meter("runtime_queue_length") == 0
