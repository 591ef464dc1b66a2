"""Whisper's tokens: what a prompt consists of, what a language is called, how tokens become words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from runtimes.errors import SetupError
from runtimes.weights import read_config

SECONDS_PER_TIMESTAMP = 0.02
_WITHOUT_SPACES = frozenset(("zh", "ja", "th", "lo", "my", "yue", "km", "bo"))
_BEFORE = "\"'“¿([{-"
_AFTER = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True)
class Word:
    """Consecutive tokens of a text that are one word, punctuation included."""

    text: str
    first: int
    end: int
    """Index after the last token."""


class Vocabulary:
    """The tokens of one model folder."""

    def __init__(self, folder: Path) -> None:
        settings = read_config(folder, "generation_config.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more exact
            raise SetupError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
        try:
            self.start: int = settings["decoder_start_token_id"]
            self.end: int = self._special("<|endoftext|>")
            self.previous: int = self._special("<|startofprev|>")
            self.no_timestamps: int = settings["no_timestamps_token_id"]
            self.languages: dict[str, int] = {
                token.strip("<|>"): number for token, number in settings.get("lang_to_id", {}).items()
            }
            self.tasks: dict[str, int] = settings.get("task_to_id", {}) if self.languages else {}
        except KeyError as error:
            raise SetupError(f"{folder} is not a Whisper model: there is no {error.args[0]!r}") from error
        self.first_timestamp = self.no_timestamps + 1

    def _special(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        if number is None:
            raise KeyError(token)
        return number

    def language(self, named: str) -> str | None:
        """The code of a language given by code or English name, in any case; None if it is not known."""
        lowered = named.strip().lower()
        code = lowered if lowered in self.languages else TO_LANGUAGE_CODE.get(lowered, "")
        return code if code in self.languages else None

    def language_name(self, code: str) -> str:
        """In English and in lower case, as the OpenAI protocol has it."""
        return str(LANGUAGES.get(code, code))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, without special tokens and timestamps."""
        text: str = self._tokenizer.decode(self.texts(tokens))
        return text

    def texts(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that stand for text."""
        return [token for token in tokens if token < self.end]

    def sequence(self, *, language: str | None, task: str, timestamps: bool) -> list[int]:
        """What tells the model what to do, before its answer begins."""
        start = [self.start]
        if language is not None and self.languages:
            start += [self.languages[language], self.tasks[task]]
        return start if timestamps else [*start, self.no_timestamps]

    def words(self, tokens: Sequence[int], *, language: str) -> list[Word]:
        """The words of text tokens, in order."""
        words: list[Word] = []
        first = 0
        for end in range(1, len(tokens) + 1):
            text = self.decode(tokens[first:end])
            if text.endswith("\ufffd"):
                continue  # in the middle of a character
            apart = language in _WITHOUT_SPACES or text.startswith(" ") or not words
            joins = not apart or text.strip() in _AFTER or (words and words[-1].text.strip() in _BEFORE)
            if words and joins:
                words[-1] = Word(words[-1].text + text, words[-1].first, end)
            else:
                words.append(Word(text, first, end))
            first = end
        return words
