"""From texts or token lists to token ids with the special tokens the encoder was trained with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class InputReader:
    """Reads inputs in a thread of its own, since a tokenizer must not be shared and many texts take a
    while.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        # Folders often ask for truncation and padding; here an overlong input is refused and batches pad.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")
        sample = self._tokenizer.encode("a")
        inside = [index for index, special in enumerate(sample.special_tokens_mask) if not special]
        self._prefix = sample.ids[: inside[0]]
        self._suffix = sample.ids[inside[-1] + 1 :]
        self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        """Token ids lie below this."""

    async def read(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> list[list[int]]:
        """Token ids of each input."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.read_now, inputs)

    def read_now(self, inputs: Sequence[Any]) -> list[list[int]]:
        """The same in this thread, for who has no other reader yet."""
        if isinstance(inputs[0], str):
            return [encoding.ids for encoding in self._tokenizer.encode_batch(list(inputs))]
        return [[*self._prefix, *tokens, *self._suffix] for tokens in inputs]
