from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runtimes.tune.chats import Chat, Message
from runtimes.tune.encoding import ChatEncoder
from runtimes.tune.failures import BadInput

CHAT = Chat(
    1,
    (
        Message("user", "When are you open?", False),
        Message("assistant", "From 7 to 22.", True),
        Message("user", "And on Sunday?", False),
        Message("assistant", "Then too.", True),
    ),
)


@pytest.fixture(scope="module")
def tokenizer(smollm_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm_folder, local_files_only=True)


def encoder_of(tokenizer: Any) -> ChatEncoder:
    return ChatEncoder(tokenizer, end_tokens={tokenizer.eos_token_id})


def test_it_learns_the_answers_and_to_stop_after_them(tokenizer: Any) -> None:
    example = encoder_of(tokenizer).encode(CHAT)
    learned = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    assert tokenizer.decode(learned) == "From 7 to 22.<|im_end|>Then too.<|im_end|>"


def test_the_whole_is_what_the_template_renders(tokenizer: Any) -> None:
    example = encoder_of(tokenizer).encode(CHAT)
    messages = [{"role": message.role, "content": message.content} for message in CHAT.messages]
    assert tokenizer.decode(example.tokens) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_the_prompt_has_the_tokens_that_it_has_when_served(tokenizer: Any) -> None:
    example = encoder_of(tokenizer).encode(Chat(1, CHAT.messages[:2]))
    served = tokenizer.apply_chat_template(
        [{"role": "user", "content": "When are you open?"}], add_generation_prompt=True, return_dict=False
    )
    assert list(example.tokens[: len(served)]) == served
    assert example.trained.index(True) == len(served)


def test_a_message_of_weight_0_is_not_learned(tokenizer: Any) -> None:
    first, answer, *rest = CHAT.messages
    example = encoder_of(tokenizer).encode(
        Chat(1, (first, Message(answer.role, answer.content, False), *rest))
    )
    learned = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    assert tokenizer.decode(learned) == "Then too.<|im_end|>"


def test_a_template_that_drops_earlier_thoughts_learns_the_last_answer(tokenizer: Any) -> None:
    template = (
        "{% for message in messages %}{{ message.role }}: "
        "{% if loop.last or message.role == 'user' %}{{ message.content }}{% else %}…{% endif %}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path, local_files_only=True)
    other.chat_template = template
    example = encoder_of(other).encode(CHAT)
    learned = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    assert other.decode(learned) == "Then too."


def test_a_chat_that_the_template_refuses_is_told_with_its_line(tokenizer: Any) -> None:
    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path, local_files_only=True)
    other.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadInput, match="roles must alternate") as refused:
        encoder_of(other).encode(CHAT)
    assert refused.value.line == 1
