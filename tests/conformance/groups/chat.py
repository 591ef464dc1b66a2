"""Chat completions through the official SDK."""

from __future__ import annotations

from typing import Any

from runtimes.contract import Task
from tests.conformance.target import Target, equal

TASK = Task.TEXT_GENERATION
ASK: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def ask(target: Target, **fields: Any) -> Any:
    given = {"model": target.model, "messages": ASK, "temperature": 0, "max_tokens": 8}
    return target.sdk.chat.completions.create(**given | fields)


def check_an_answer_is_a_chat_completion(target: Target) -> None:
    answer = ask(target)
    equal((answer.object, answer.model), ("chat.completion", target.model))
    assert answer.id and isinstance(answer.created, int)


def check_an_answer_is_the_assistants(target: Target) -> None:
    message = ask(target).choices[0].message
    equal(message.role, "assistant")
    assert message.content, "no content"


def check_each_answer_has_its_own_id(target: Target) -> None:
    assert ask(target, max_tokens=1).id != ask(target, max_tokens=1).id


def check_usage_adds_up(target: Target) -> None:
    usage = ask(target, max_tokens=4).usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    assert usage.prompt_tokens > 0 and 1 <= usage.completion_tokens <= 4


def check_max_tokens_ends_the_answer(target: Target) -> None:
    answer = ask(target, max_tokens=2)
    equal((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 2))


def check_max_completion_tokens_ends_the_answer(target: Target) -> None:
    answer = target.sdk.chat.completions.create(
        model=target.model, messages=ASK, max_completion_tokens=2, temperature=0
    )
    equal((answer.choices[0].finish_reason, answer.usage and answer.usage.completion_tokens), ("length", 2))


def check_a_complete_answer_says_stop(target: Target) -> None:
    equal(ask(target, max_tokens=60).choices[0].finish_reason, "stop")


def check_n_gives_so_many_choices(target: Target) -> None:
    answer = ask(target, n=2, max_tokens=3)
    equal([choice.index for choice in answer.choices], [0, 1])


def check_n_counts_the_prompt_once(target: Target) -> None:
    one, two = ask(target, max_tokens=2), ask(target, n=2, max_tokens=2)
    equal(two.usage.prompt_tokens, one.usage.prompt_tokens)
    equal(two.usage.completion_tokens, 4)


def check_choices_differ_when_there_is_chance(target: Target) -> None:
    answer = ask(target, n=2, temperature=1.8, seed=11, max_tokens=12)
    assert answer.choices[0].message.content != answer.choices[1].message.content


def check_temperature_zero_repeats(target: Target) -> None:
    equal(ask(target).choices[0].message.content, ask(target).choices[0].message.content)


def check_a_seed_repeats(target: Target) -> None:
    first, second = (ask(target, temperature=1.5, seed=5).choices[0].message.content for _ in range(2))
    equal(first, second)


def check_another_seed_differs(target: Target) -> None:
    texts = {ask(target, temperature=1.8, seed=seed).choices[0].message.content for seed in range(3)}
    assert len(texts) > 1, f"always {texts}"


def check_a_stop_string_ends_the_answer(target: Target) -> None:
    whole = ask(target, max_tokens=6).choices[0].message.content
    stopped = ask(target, max_tokens=6, stop=whole[5:8]).choices[0]
    equal((stopped.message.content, stopped.finish_reason), (whole[: whole.find(whole[5:8])], "stop"))


def check_any_of_several_stops_ends_the_answer(target: Target) -> None:
    whole = ask(target, max_tokens=6).choices[0].message.content
    stopped = ask(target, max_tokens=6, stop=["\u2603", whole[5:8]]).choices[0]
    equal((stopped.message.content, stopped.finish_reason), (whole[: whole.find(whole[5:8])], "stop"))


def check_messages_of_all_roles_are_read(target: Target) -> None:
    messages = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Say A."},
        {"role": "assistant", "content": "A."},
        {"role": "user", "content": "Say B."},
    ]
    assert ask(target, messages=messages).choices[0].message.content


def check_developer_is_the_system(target: Target) -> None:
    def tokens(role: str) -> int:
        messages = [{"role": role, "content": "You are brief."}, *ASK]
        return int(ask(target, messages=messages, max_tokens=1).usage.prompt_tokens)

    equal(tokens("developer"), tokens("system"))


def check_parts_of_text_are_joined(target: Target) -> None:
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]
    whole = ask(target, messages=[{"role": "user", "content": parts}])
    equal(whole.choices[0].message.content, ask(target).choices[0].message.content)


def check_an_answer_can_be_sent_back(target: Target) -> None:
    message = ask(target).choices[0].message
    messages = [*ASK, message.to_dict(), {"role": "user", "content": "Go on."}]
    assert ask(target, messages=messages).usage.prompt_tokens > 10


def check_text_of_any_script_is_read(target: Target) -> None:
    messages = [{"role": "user", "content": "日本語 🦊 \u0000 Ελληνικά"}]
    equal(ask(target, messages=messages, max_tokens=1).usage.completion_tokens, 1)


def check_user_is_taken(target: Target) -> None:
    assert ask(target, user="customer-7", max_tokens=1).choices


def check_a_logit_bias_changes_the_choice(target: Target) -> None:
    plain = ask(target, max_tokens=1, logprobs=True, top_logprobs=1)
    biased = ask(target, max_tokens=1, logit_bias={str(number): -100 for number in range(100, 48000)})
    assert plain.choices[0].message.content != biased.choices[0].message.content


def check_neutral_values_are_taken(target: Target) -> None:
    neutral: dict[str, Any] = {"tools": [], "logprobs": False, "n": 1, "stop": None, "store": False}
    extra = {"response_format": {"type": "text"}, "modalities": ["text"], "metadata": {}}
    response = target.http.post(
        "/v1/chat/completions",
        json={"model": target.model, "messages": ASK, "max_tokens": 1, **neutral, **extra},
    )
    assert response.status_code == 200, response.text
