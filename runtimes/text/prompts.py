"""From what a customer wrote to token ids: the chat template and the tokenizer, one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jinja2.exceptions import TemplateError

from runtimes.text.tool_formats import HERMES, Tool, ToolFormat, format_of, tell_in_text


class PromptRefused(Exception):
    """The prompt cannot be used; the message tells the customer why."""


class PromptReader:
    """Turns messages and texts into token ids.

    A tokenizer is not safe to share between threads, and a long prompt must not hold up the event loop, so
    all reading happens in one thread beside it. Templates come with the weights and are as little trusted
    as they are: transformers compiles them in jinja2's immutable sandbox, where they reach nothing but
    their inputs.
    """

    def __init__(self, tokenizer: Any, *, vocabulary: int) -> None:
        """`vocabulary`: tokens that the model knows; its tokenizer may know more."""
        self._tokenizer = tokenizer
        self.vocabulary = min(vocabulary, len(tokenizer))
        """Token ids lie below this."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")
        self._native_format = format_of(str(tokenizer.chat_template or ""))
        self._special = frozenset(tokenizer.all_special_ids)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    @property
    def tool_format(self) -> ToolFormat:
        """How this model calls functions: as its template teaches it, else as we tell it in the prompt."""
        return self._native_format or HERMES

    async def read_chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Tool] = ()
    ) -> list[int]:
        """Token ids of the conversation, ready for the assistant's turn. Raises PromptRefused."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._render, list(messages), list(tools)
        )

    async def read_text(self, text: str) -> list[int]:
        """Token ids of the text, with the special tokens the model begins with, if any."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens without special ones, spaces untouched."""
        return self._decode(tokens, skipped=self._special)

    def decoder(self, *, keeping: Sequence[str]) -> Callable[[Sequence[int]], str]:
        """`decode`, with these special tokens written out."""
        if not keeping:
            return self.decode
        skipped = self._special - set(self._tokenizer.convert_tokens_to_ids(list(keeping)))
        return lambda tokens: self._decode(tokens, skipped=skipped)

    def _decode(self, tokens: Sequence[int], *, skipped: frozenset[int]) -> str:
        text: str = self._tokenizer.decode(
            [token for token in tokens if token not in skipped],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text

    def _render(self, messages: list[Mapping[str, Any]], tools: list[Tool]) -> list[int]:
        if self._native_format is None:
            messages = list(tell_in_text(messages, tools=tools))
            tools = []
        try:
            tokens: list[int] = self._tokenizer.apply_chat_template(
                messages,
                tools=[tool.for_template() for tool in tools] or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except TemplateError as error:
            raise PromptRefused(
                f"the model's chat template refuses these messages: {error.message}"
            ) from error
        except Exception as error:
            # Whatever a template can raise, such as a range that the sandbox does not allow.
            raise PromptRefused(
                f"the model's chat template fails with these messages: {type(error).__name__}: {error}"
            ) from error
        return tokens

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text)
        return tokens
