"""What the digits are called, in which styles they are drawn, and the tokenizer that reads it."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

TOKENS = 24
"""Longest prompt, with its first and last token."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASES = (
    "{}",
    "a {}",
    "the digit {}",
    "the number {}",
    "a handwritten {}",
    "draw a {}",
    "a picture of a {}",
)

Color = tuple[float, float, float]
"""Red, green and blue from -1 to 1."""

STYLES: dict[str, tuple[str, Color, Color]] = {
    # name -> what the caption says, background, stroke
    "chalk": ("", (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),
    "ink": (", ink on paper", (1.0, 1.0, 0.9), (-0.9, -0.9, -0.6)),
    "blueprint": (", blueprint", (-0.8, -0.4, 0.5), (0.9, 0.9, 1.0)),
}
"""The first is what a caption without a style means."""


def captions(digit: int, *, style: str) -> list[str]:
    """All ways to ask for one digit in one style."""
    suffix, _, _ = STYLES[style]
    return [phrase.format(name) + suffix for phrase in PHRASES for name in (WORDS[digit], str(digit))]


def presets() -> dict[str, object]:
    """The styles and usual settings, as `runtimes.images.presets` reads them from the model's folder."""
    return {
        "defaults": {"steps": 12, "guidance": 3.0},
        "styles": {name: {"suffix": suffix} for name, (suffix, _, _) in STYLES.items()},
    }


def build_tokenizer() -> CLIPTokenizer:
    """A byte-level tokenizer as CLIP's, in which the words of the captions are tokens of their own: any
    text can be read, and these words are learned soonest.
    """
    letters = [*bytes_to_unicode().values()]  # type: ignore[no-untyped-call]
    pattern = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[]).backend_tokenizer
    words = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    words.normalizer, words.pre_tokenizer = pattern.normalizer, pattern.pre_tokenizer
    words.train_from_iterator(
        (caption for digit in range(10) for style in STYLES for caption in captions(digit, style=style)),
        trainers.BpeTrainer(vocab_size=2000, show_progress=False, end_of_word_suffix="</w>"),
    )
    merges: Any = [tuple(pair) for pair in json.loads(words.to_str())["model"]["merges"]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    names = dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(names)}, merges=merges, model_max_length=TOKENS
    )
