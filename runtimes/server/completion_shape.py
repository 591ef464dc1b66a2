"""How the answers of /v1/completions are written, whole and in events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtimes.server.chat_shape import TokenBytes, finite
from runtimes.text.engine import Token
from runtimes.text.model import Piece


class CompletionShape:
    """Writes the choices of one request. `echoes` are what each begins with, empty when nothing is."""

    id_prefix = "cmpl"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, *, echoes: Sequence[str], tells_tokens: bool, token_bytes: TokenBytes) -> None:
        self._echoes = echoes
        self._tells_tokens = tells_tokens
        self._token_bytes = token_bytes
        self._begun: set[int] = set()
        self._offsets: dict[int, int] = {}

    def chunks(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """The choices of the events that this piece makes, one for each event."""
        text = piece.text
        if index not in self._begun:
            self._begun.add(index)
            text = self._echoes[index] + text
        chunks = []
        if text or piece.shown:
            logprobs = self._logprobs(index, piece.shown) if self._tells_tokens else None
            chunks.append({"index": index, "text": text, "logprobs": logprobs, "finish_reason": None})
        if piece.finish_reason is not None:
            chunks.append(
                {"index": index, "text": "", "logprobs": None, "finish_reason": piece.finish_reason}
            )
        return chunks

    def whole(self, chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The choice that these chunks make together."""
        told = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"] is not None]
        logprobs = {
            key: [value for part in told for value in part[key]]
            for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        }
        return {
            "index": chunks[0]["index"],
            "text": "".join(chunk["text"] for chunk in chunks),
            "logprobs": logprobs if self._tells_tokens else None,
            "finish_reason": chunks[-1]["finish_reason"],
        }

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        texts = [self._text(token.id) for token in tokens]
        offsets = []
        for text in texts:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(text)
        return {
            "tokens": texts,
            "token_logprobs": [finite(token.logprob) for token in tokens],
            "top_logprobs": [
                {self._text(number): finite(logprob) for number, logprob in token.top} for token in tokens
            ],
            "text_offset": offsets,
        }

    def _text(self, token: int) -> str:
        """A token that is part of a character is told by its bytes, as OpenAI's API does."""
        content = self._token_bytes(token)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)
