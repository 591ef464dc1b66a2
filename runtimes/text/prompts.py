"""From what a customer wrote to token ids: the chat template and the tokenizer, one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jinja2.exceptions import TemplateError


class PromptRefused(Exception):
    """The prompt cannot be used; the message tells the customer why."""


class PromptReader:
    """Turns messages and texts into token ids.

    A tokenizer is not safe to share between threads, and a long prompt must not hold up the event loop, so
    all reading happens in one thread beside it. Templates come with the weights and are as little trusted
    as they are: transformers compiles them in jinja2's immutable sandbox, where they reach nothing but
    their inputs.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    @property
    def vocabulary(self) -> int:
        """Token ids lie below this."""
        return len(self._tokenizer)

    async def read_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of the conversation, ready for the assistant's turn. Raises PromptRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._render, list(messages))

    async def read_text(self, text: str) -> list[int]:
        """Token ids of the text, with the special tokens the model begins with, if any."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens without special ones, spaces untouched."""
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _render(self, messages: list[Mapping[str, str]]) -> list[int]:
        try:
            tokens: list[int] = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as error:
            raise PromptRefused(
                f"the model's chat template refuses these messages: {error.message}"
            ) from error
        return tokens

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text)
        return tokens
