"""From a chat to tokens, and which of them the model learns to say: what the assistant says, and to stop
after it.

The text before an answer is tokenized by itself, exactly as it is when the tuned model is served, so that the
first token of an answer is learned in the place where it will be generated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from runtimes.tune.chats import Chat
from runtimes.tune.failures import BadInput


@dataclass(frozen=True)
class Example:
    """One tokenized chat."""

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    """Per token: whether its prediction counts in the loss. Never the first token, which nothing predicts."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def trained_tokens(self) -> int:
        return sum(self.trained)

    def cut(self, length: int) -> Example:
        """The first `length` tokens."""
        return self if len(self) <= length else Example(self.tokens[:length], self.trained[:length])


class ChatEncoder:
    """Encodes chats with a model's own tokenizer and chat template."""

    def __init__(self, tokenizer: Any, *, end_tokens: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = frozenset(end_tokens)

    def encode(self, chat: Chat) -> Example:
        """Tokens and mask of a chat. Raises BadInput when the model's template refuses it."""
        messages = [{"role": message.role, "content": message.content} for message in chat.messages]
        try:
            pieces = self._pieces(chat, messages)
        except TemplateError as error:
            raise BadInput(
                f"the model's chat template refuses this example: {error.message}", line=chat.line
            ) from error
        tokens: list[int] = []
        trained: list[bool] = []
        for text, learn in pieces:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            tokens += ids
            trained += self._mask(ids) if learn else [False] * len(ids)
        if trained:
            trained[0] = False
        return Example(tuple(tokens), tuple(trained))

    def _pieces(self, chat: Chat, messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
        """The rendered chat cut before and after each answer: (text, whether to learn it)."""
        whole = self._render(messages)
        pieces: list[tuple[str, bool]] = []
        reached = 0
        for index, message in enumerate(chat.messages):
            if message.role != "assistant":
                continue
            before = self._render(messages[:index], prompt=True)
            through = self._render(messages[: index + 1]) if index + 1 < len(messages) else whole
            # A template may render an earlier turn otherwise than the last one (dropping its thoughts, say).
            # Such a turn cannot be told apart in the whole, so it only counts as context.
            if (
                reached <= len(before) < len(through)
                and whole.startswith(through)
                and through.startswith(before)
            ):
                pieces += [
                    (whole[reached : len(before)], False),
                    (whole[len(before) : len(through)], message.trained),
                ]
                reached = len(through)
        if not any(learn for _, learn in pieces):
            raise BadInput(
                "the model's chat template does not keep the answers of this example as they are; end it "
                "with the assistant's message that is to be learned",
                line=chat.line,
            )
        return [(text, learn) for text, learn in [*pieces, (whole[reached:], False)] if text]

    def _render(self, messages: Sequence[dict[str, str]], *, prompt: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt
        )
        return text

    def _mask(self, ids: Sequence[int]) -> list[bool]:
        """True up to the first end token: what follows it is never generated."""
        for index, token in enumerate(ids):
            if token in self._end_tokens:
                return [True] * (index + 1) + [False] * (len(ids) - index - 1)
        return [True] * len(ids)
