"""Probabilities of tokens."""

from __future__ import annotations

import math

from runtimes.contract import Task
from tests.conformance.groups.chat import ask
from tests.conformance.target import Target, equal

TASK = Task.TEXT_GENERATION


def check_tokens_join_to_the_content(target: Target) -> None:
    choice = ask(target, logprobs=True, max_tokens=5).choices[0]
    equal("".join(token.token for token in choice.logprobs.content), choice.message.content)


def check_bytes_join_to_the_content(target: Target) -> None:
    choice = ask(target, logprobs=True, max_tokens=5).choices[0]
    equal(b"".join(bytes(token.bytes) for token in choice.logprobs.content), choice.message.content.encode())


def check_probabilities_are_probabilities(target: Target) -> None:
    for token in ask(target, logprobs=True, top_logprobs=5, max_tokens=3).choices[0].logprobs.content:
        assert token.logprob <= 0
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.001


def check_as_many_likely_tokens_as_asked_for(target: Target) -> None:
    tokens = ask(target, logprobs=True, top_logprobs=3, max_tokens=2).choices[0].logprobs.content
    equal([len(token.top_logprobs) for token in tokens], [3, 3])


def check_the_greedy_choice_is_the_most_likely(target: Target) -> None:
    tokens = ask(target, logprobs=True, top_logprobs=1, max_tokens=4).choices[0].logprobs.content
    equal([token.top_logprobs[0].token for token in tokens], [token.token for token in tokens])


def check_none_unless_asked_for(target: Target) -> None:
    equal(ask(target, max_tokens=1).choices[0].logprobs, None)


def check_a_stream_tells_the_same(target: Target) -> None:
    whole = ask(target, logprobs=True, max_tokens=4).choices[0].logprobs.content
    chunks = ask(target, logprobs=True, max_tokens=4, stream=True)
    streamed = [
        token.token
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    equal(streamed, [token.token for token in whole])
