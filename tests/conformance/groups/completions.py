"""Plain completions, which have no chat template between the prompt and the model."""

from __future__ import annotations

from typing import Any

from runtimes.contract import Task
from tests.conformance.checks import cases
from tests.conformance.target import Target, equal, refused

TASK = Task.TEXT_GENERATION
PROMPT = "The capital of France is"


def complete(target: Target, **fields: Any) -> Any:
    given = {"model": target.model, "prompt": PROMPT, "temperature": 0, "max_tokens": 4}
    return target.sdk.completions.create(**given | fields)


def check_an_answer_is_a_completion(target: Target) -> None:
    answer = complete(target)
    equal(
        (answer.object, answer.choices[0].index, bool(answer.choices[0].text)), ("text_completion", 0, True)
    )


def check_usage_adds_up(target: Target) -> None:
    usage = complete(target).usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)


def check_sixteen_tokens_unless_said_otherwise(target: Target) -> None:
    usage = target.sdk.completions.create(model=target.model, prompt="1, 2, 3,", temperature=0).usage
    assert usage is not None and usage.completion_tokens <= 16, usage


def check_each_prompt_is_answered(target: Target) -> None:
    answer = complete(target, prompt=[PROMPT, "One, two,"], max_tokens=2)
    equal([choice.index for choice in answer.choices], [0, 1])


def check_n_answers_of_each_prompt(target: Target) -> None:
    equal(len(complete(target, prompt=["a", "b"], n=2, max_tokens=1).choices), 4)


def check_tokens_are_a_prompt(target: Target) -> None:
    equal(complete(target, prompt=[100, 200, 300], max_tokens=1).usage.prompt_tokens, 3)


def check_echo_repeats_the_prompt(target: Target) -> None:
    equal(complete(target, echo=True).choices[0].text, PROMPT + complete(target).choices[0].text)


def check_a_stop_ends_the_answer(target: Target) -> None:
    whole = complete(target).choices[0].text
    stopped = complete(target, stop=whole[1:3]).choices[0]
    equal((stopped.text, stopped.finish_reason), (whole[: whole.find(whole[1:3])], "stop"))


def check_a_stream_says_the_same(target: Target) -> None:
    text = "".join(choice.text for chunk in complete(target, stream=True) for choice in chunk.choices)
    equal(text, complete(target).choices[0].text)


def check_logprobs_have_the_old_shape(target: Target) -> None:
    choice = complete(target, logprobs=2).choices[0]
    equal("".join(choice.logprobs.tokens), choice.text)
    equal(
        {len(part) for part in (choice.logprobs.token_logprobs, choice.logprobs.top_logprobs)},
        {len(choice.logprobs.tokens)},
    )


def check_offsets_are_those_of_the_text(target: Target) -> None:
    choice = complete(target, logprobs=0).choices[0]
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
        equal(choice.text[offset : offset + len(token)], token)


def check_best_of_may_be_n(target: Target) -> None:
    equal(len(complete(target, best_of=1, n=1, max_tokens=1).choices), 1)


@cases(
    {
        "best of more": ({"best_of": 3}, "best_of"),
        "a suffix": ({"suffix": "end"}, "suffix"),
        "six likely tokens": ({"logprobs": 6}, "logprobs"),
        "an empty prompt": ({"prompt": ""}, "prompt"),
        "no prompts": ({"prompt": []}, "prompt"),
        "mixed prompts": ({"prompt": ["a", [1]]}, "prompt"),
        "no such token": ({"prompt": [99_999_999]}, "prompt"),
        "an unknown field": ({"prefix": "x"}, "prefix"),
    }
)
def check_it_refuses(target: Target, case: tuple[dict[str, Any], str]) -> None:
    changes, param = case
    body = {"model": target.model, "prompt": PROMPT, "max_tokens": 1}
    refused(target.http.post("/v1/completions", json=body | changes), param=param)
