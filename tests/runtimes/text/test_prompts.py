"""Chat templates, which come with the weights and are not trusted, and functions for those that know none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runtimes.text.prompts import PromptReader, PromptRefused
from runtimes.text.tool_formats import HERMES, LLAMA, MISTRAL, Tool, format_of

pytestmark = pytest.mark.weights

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
CLOCK = Tool(name="clock", description="Tells the time.", parameters=None, strict=False)


@pytest.fixture(scope="module")
def tokenizer(smollm_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm_folder)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['os'].system('true') }}",
        "{{ messages.append({'role': 'system'}) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ messages[7].content.text }}",
        "{% if %}",
        "{% include '/etc/passwd' %}",
    ],
)
async def test_a_template_that_reaches_out_is_refused_and_the_next_is_read(
    tokenizer: Any, template: str
) -> None:
    good = tokenizer.chat_template
    reader = PromptReader(tokenizer, vocabulary=len(tokenizer))
    try:
        tokenizer.chat_template = template
        with pytest.raises(PromptRefused, match="chat template"):
            await reader.read_chat(HELLO)
    finally:
        tokenizer.chat_template = good
    assert len(await reader.read_chat(HELLO)) > 3


def test_a_token_that_only_the_tokenizer_knows_is_none_of_the_vocabulary(tokenizer: Any) -> None:
    known = len(tokenizer)
    assert PromptReader(tokenizer, vocabulary=known - 1).vocabulary == known - 1
    assert PromptReader(tokenizer, vocabulary=known + 100).vocabulary == known


async def test_functions_are_told_in_the_system_message_where_the_template_knows_none(tokenizer: Any) -> None:
    reader = PromptReader(tokenizer, vocabulary=len(tokenizer))
    call = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": {"zone": "CET"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "14:35"},
    ]

    text = tokenizer.decode(await reader.read_chat(messages, tools=[CLOCK]))

    assert reader.tool_format is HERMES
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou can call functions.")
    assert '{"name": "clock", "description": "Tells the time.", "parameters": {"type": "object"' in text
    assert '<tool_call>\n{"name": "clock", "arguments": {"zone": "CET"}}\n</tool_call>' in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\n14:35\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_template_says_how_its_model_calls() -> None:
    templates = {
        "{% if tools %}{{ tools }} <tool_call>{% endif %}": HERMES,
        "{% if tools %}{{ '[AVAILABLE_TOOLS]' }}{% endif %}[TOOL_CALLS]": MISTRAL,
        "{% if tools %}{{ tools }} <|start_header_id|>ipython{% endif %}": LLAMA,
        "{% if tools %}{{ tools }} in some other way{% endif %}": None,
        "{{ messages }} <tool_call>": None,
    }

    assert {template: format_of(template) for template in templates} == templates
