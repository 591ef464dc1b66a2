"""How the answers of /v1/chat/completions are written, whole and in events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtimes.server.tool_use import AnswerRules
from runtimes.text.engine import Token
from runtimes.text.model import Piece
from runtimes.text.tool_calls import Argued, CallBegan, CallReader, Said, Spoken

TokenBytes = Callable[[int], bytes]


class SpokenReader:
    """One answer as a client should see it: text and calls of functions."""

    def __init__(self, rules: AnswerRules) -> None:
        self._reader = (
            CallReader(
                rules.style.marks,
                names=frozenset(tool.name for tool in rules.tools),
                forced=rules.forced,
            )
            if rules.style is not None
            else None
        )

    def read(self, piece: Piece) -> Sequence[Spoken]:
        """What has become certain; the last piece brings the rest."""
        if self._reader is None:
            return [Said(piece.text)] if piece.text else []
        spoken = self._reader.push(piece.text)
        return spoken + self._reader.finish() if piece.finish_reason is not None else spoken

    def reason(self, piece: Piece) -> str | None:
        """Why the answer ended: it is waiting for the results of its calls when it has some."""
        called = self._reader is not None and self._reader.calls > 0
        return "tool_calls" if called and piece.finish_reason == "stop" else piece.finish_reason


class ChatShape:
    """Writes the choices of one request."""

    id_prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, rules: AnswerRules, *, tells_tokens: bool, token_bytes: TokenBytes) -> None:
        self._rules = rules
        self._tells_tokens = tells_tokens
        self._token_bytes = token_bytes
        self._readers: dict[int, SpokenReader] = {}

    def chunks(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """The choices of the events that this piece makes, one for each event."""
        deltas: list[dict[str, Any]] = []
        if index not in self._readers:
            self._readers[index] = SpokenReader(self._rules)
            deltas.append({"role": "assistant", "content": ""})
        reader = self._readers[index]
        told: list[dict[str, Any]] = [self._delta(item) for item in reader.read(piece)]
        if piece.shown and not told:
            told = [{}]
        chunks: list[dict[str, Any]] = [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            for delta in (*deltas, *told)
        ]
        if piece.shown:
            chunks[-1]["logprobs"] = {"content": self._logprobs(piece.shown), "refusal": None}
        if piece.finish_reason is not None:
            reason = reader.reason(piece)
            chunks.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": reason})
        return chunks

    def whole(self, chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The choice that these chunks make together."""
        content = "".join(chunk["delta"].get("content", "") for chunk in chunks)
        calls: list[dict[str, Any]] = []
        for chunk in chunks:
            for call in chunk["delta"].get("tool_calls", ()):
                if call["index"] == len(calls):
                    calls.append({**call, "function": dict(call["function"])})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if calls and not content else content,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = [
                {key: value for key, value in call.items() if key != "index"} for call in calls
            ]
        tokens = [entry for chunk in chunks if chunk["logprobs"] for entry in chunk["logprobs"]["content"]]
        return {
            "index": chunks[0]["index"],
            "message": message,
            "logprobs": {"content": tokens, "refusal": None} if self._tells_tokens else None,
            "finish_reason": chunks[-1]["finish_reason"],
        }

    def _delta(self, spoken: Spoken) -> dict[str, Any]:
        match spoken:
            case Said(text):
                return {"content": text}
            case CallBegan(index, name):
                assert self._rules.style is not None
                call: dict[str, Any] = {"index": index, "id": self._rules.style.make_id(), "type": "function"}
                return {"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]}
            case Argued(index, fragment):
                return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}

    def _logprobs(self, tokens: Sequence[Token]) -> list[dict[str, Any]]:
        return [token_logprobs(token, token_bytes=self._token_bytes) for token in tokens]


def token_logprobs(token: Token, *, token_bytes: TokenBytes) -> dict[str, Any]:
    """One token with its probability and that of the most likely ones at its place."""

    def entry(number: int, logprob: float | None) -> dict[str, Any]:
        content = token_bytes(number)
        return {
            "token": content.decode(errors="replace"),
            "logprob": finite(logprob),
            "bytes": list(content),
        }

    top = [entry(number, logprob) for number, logprob in token.top]
    return {**entry(token.id, token.logprob), "top_logprobs": top}


def finite(logprob: float | None) -> float:
    """JSON has no minus infinity; this number is what OpenAI's API writes for a token that cannot be."""
    return max(logprob if logprob is not None else -9999.0, -9999.0)
