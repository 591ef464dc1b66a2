"""How the answer of /v1/responses is written: a list of items, and the events in which they grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from runtimes.server.chat_shape import SpokenReader, TokenBytes, token_logprobs
from runtimes.server.responses_schemas import ResponseBody
from runtimes.server.tool_use import AnswerRules
from runtimes.text.model import Piece
from runtimes.text.tool_calls import Argued, CallBegan, Said

Event = dict[str, Any]


class ResponseShape:
    """One response from its first event to its last; `response` is what a whole answer shows."""

    def __init__(
        self, body: ResponseBody, *, rules: AnswerRules, prompt_tokens: int, token_bytes: TokenBytes
    ) -> None:
        self._rules = rules
        self._reader = SpokenReader(rules)
        self._token_bytes = token_bytes
        self._tells_tokens = bool(body.include)
        self._numbers = 0
        self._usage = {"input_tokens": prompt_tokens, "output_tokens": 0}
        self._item: dict[str, Any] | None = None
        self.response: dict[str, Any] = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": body.model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": body.temperature,
            "text": body.text.model_dump(by_alias=True, exclude_none=True)
            if body.text.format is not None
            else {"format": {"type": "text"}},
            "tool_choice": _choice(body),
            "tools": [tool.model_dump() for tool in body.tools],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": body.user,
            "metadata": body.metadata,
        }

    def begin(self) -> Iterator[Event]:
        """The events before the first token."""
        yield self._event("response.created", response=self._snapshot())
        yield self._event("response.in_progress", response=self._snapshot())

    def read(self, piece: Piece) -> Iterator[Event]:
        """The events that this piece makes; the last piece ends the response."""
        self._usage["output_tokens"] += piece.tokens
        tokens = [token_logprobs(token, token_bytes=self._token_bytes) for token in piece.shown]
        for spoken in self._reader.read(piece):
            match spoken:
                case Said(text):
                    yield from self._say(text, tokens)
                    tokens = []
                case CallBegan(_, name):
                    yield from self._close_item("completed")
                    yield from self._open_call(name)
                case Argued(_, fragment):
                    yield from self._argue(fragment)
        if piece.finish_reason is not None:
            yield from self._end(complete=piece.finish_reason == "stop")

    def _end(self, *, complete: bool) -> Iterator[Event]:
        status = "completed" if complete else "incomplete"
        if self._item is None and not self.response["output"]:
            yield from self._open_message()
        yield from self._close_item(status)
        self.response["status"] = status
        self.response["completed_at"] = int(time.time()) if complete else None
        if not complete:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response["usage"] = {
            **self._usage,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(self._usage.values()),
        }
        yield self._event(f"response.{status}", response=self._snapshot())

    def _open_message(self) -> Iterator[Event]:
        self._item = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        yield self._event("response.output_item.added", output_index=self._index, item=dict(self._item))
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=dict(part))
        self._item["content"] = [part]

    def _say(self, text: str, tokens: list[dict[str, Any]]) -> Iterator[Event]:
        if self._item is None or self._item["type"] != "message":
            yield from self._close_item("completed")
            yield from self._open_message()
        assert self._item is not None
        part = self._item["content"][0]
        part["text"] += text
        part["logprobs"] += tokens
        yield self._event(
            "response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=tokens
        )

    def _open_call(self, name: str) -> Iterator[Event]:
        assert self._rules.style is not None
        self._item = {
            "id": f"fc_{uuid4().hex}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": self._rules.style.make_id(),
            "name": name,
            "arguments": "",
        }
        yield self._event("response.output_item.added", output_index=self._index, item=dict(self._item))

    def _argue(self, fragment: str) -> Iterator[Event]:
        assert self._item is not None
        self._item["arguments"] += fragment
        yield self._event("response.function_call_arguments.delta", **self._place(), delta=fragment)

    def _close_item(self, status: str) -> Iterator[Event]:
        item = self._item
        if item is None:
            return
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            yield self._event(
                "response.output_text.done",
                **self._place(),
                content_index=0,
                text=part["text"],
                logprobs=part["logprobs"],
            )
            yield self._event("response.content_part.done", **self._place(), content_index=0, part=part)
        else:
            yield self._event(
                "response.function_call_arguments.done",
                **self._place(),
                arguments=item["arguments"],
            )
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self.response["output"].append(item)
        self._item = None

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": self._index}

    def _snapshot(self) -> dict[str, Any]:
        return {**self.response, "output": list(self.response["output"])}

    def _event(self, kind: str, /, **fields: Any) -> Event:
        self._numbers += 1
        return {"type": kind, "sequence_number": self._numbers - 1, **fields}


def _choice(body: ResponseBody) -> Any:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    return choice.type if choice.name is None else {"type": "function", "name": choice.name}
