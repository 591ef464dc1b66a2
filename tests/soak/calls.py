"""The calls of a soak, and what counts as a whole answer to each."""

from __future__ import annotations

import json
import math
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
WORDS = ("river", "stone", "harbor", "lantern", "winter", "copper", "garden", "letter", "thunder")


class Result(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """429 with Retry-After."""
    REJECTED = "rejected"
    """A bad request that was told so."""
    LEFT = "left"
    """We hung up."""
    WRONG = "wrong"
    """Anything else: what a soak looks for."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request."""

    kind: str
    path: str
    body: Mapping[str, Any]
    bad: bool = False
    leaves_after: float | None = None
    """Seconds after which we hang up."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a call."""

    kind: str
    result: Result
    detail: str = ""


@dataclass
class Mix:
    """Draws calls: mostly good ones, some that are wrong, some that nobody waits for."""

    chance: random.Random
    bad_share: float = 0.08
    leaving_share: float = 0.08
    _sent: int = field(default=0, init=False)

    def text(self) -> Call:
        """A call of the text server."""
        if self.chance.random() < self.bad_share:
            return self._bad_text()
        leaves_after = self.chance.uniform(0.05, 1.5) if self.chance.random() < self.leaving_share else None
        limit = {"model": "text", "max_tokens": self.chance.randint(4, 24)}
        match self.chance.choice(["chat", "chat", "stream", "stream", "completion"]):
            case "chat":
                body = limit | {"messages": self._messages()}
                return Call(kind="chat", path=CHAT, body=body, leaves_after=leaves_after)
            case "stream":
                streamed = {"stream": True, "stream_options": {"include_usage": True}}
                body = limit | streamed | {"messages": self._messages()}
                return Call(kind="stream", path=CHAT, body=body, leaves_after=leaves_after)
        body = limit | {"prompt": self._sentence()}
        return Call(kind="completion", path=COMPLETIONS, body=body, leaves_after=leaves_after)

    def embedding(self) -> Call:
        """A call of the embedding server."""
        inputs: list[Any] = [self._sentence() for _ in range(self.chance.randint(1, 64))]
        body: dict[str, Any] = {"model": "embed", "input": inputs}
        if self.chance.random() < self.bad_share:
            return Call(kind="bad embedding", path=EMBEDDINGS, body=body | {"input": [*inputs, ""]}, bad=True)
        leaves_after = self.chance.uniform(0.01, 0.5) if self.chance.random() < self.leaving_share else None
        return Call(kind="embedding", path=EMBEDDINGS, body=body, leaves_after=leaves_after)

    def _bad_text(self) -> Call:
        wrong = self.chance.choice(
            [{"temperature": -1}, {"n": 10_000}, {"messages": []}, {"max_tokens": 10**6}, {"nonsense": True}]
        )
        body = {"model": "text", "max_tokens": 4, "messages": self._messages()} | wrong
        return Call(kind="bad chat", path=CHAT, body=body, bad=True)

    def _messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._sentence()}]

    def _sentence(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(3, 40)))


async def make_call(client: httpx.AsyncClient, call: Call) -> Outcome:
    """Sends the call, reads its answer to the end, and judges it."""
    try:
        async with client.stream("POST", call.path, json=call.body) as response:
            content = await response.aread()
    except httpx.HTTPError as error:
        return Outcome(kind=call.kind, result=Result.WRONG, detail=f"{type(error).__name__}: {error}")
    return judge(call, status=response.status_code, headers=response.headers, content=content)


def judge(call: Call, *, status: int, headers: Mapping[str, str], content: bytes) -> Outcome:
    """What an answer is worth: a refusal says when to come back, an answer is complete, a bad request is told
    its fault.
    """
    if status == 429:
        wait = headers.get("retry-after", "")
        fine = wait.isdecimal() and 1 <= int(wait) <= 60 and not call.bad
        return _outcome(call, Result.REFUSED if fine else Result.WRONG, f"429, Retry-After {wait!r}")
    if call.bad:
        fine = status == 400 and _is_error(content)
        return _outcome(call, Result.REJECTED if fine else Result.WRONG, f"{status} {content[:200]!r}")
    fault = f"{status} {content[:200]!r}" if status != 200 else _fault(call, content)
    return _outcome(call, Result.WRONG if fault else Result.ANSWERED, fault or "")


def _outcome(call: Call, result: Result, detail: str) -> Outcome:
    return Outcome(kind=call.kind, result=result, detail=detail if result is Result.WRONG else "")


def _is_error(content: bytes) -> bool:
    try:
        return set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
    except (ValueError, KeyError, TypeError):
        return False


def _fault(call: Call, content: bytes) -> str | None:
    """Why a 200 is not a whole answer; None when it is."""
    try:
        return _stream_fault(content) if call.kind == "stream" else _whole_fault(call, json.loads(content))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"unreadable ({type(error).__name__} {error}): {content[-200:]!r}"


def _whole_fault(call: Call, answer: dict[str, Any]) -> str | None:
    if call.kind == "embedding":
        vectors = [item["embedding"] for item in answer["data"]]
        if len(vectors) != len(call.body["input"]):
            return f"{len(vectors)} vectors for {len(call.body['input'])} inputs"
        norms = {round(math.hypot(*vector), 3) for vector in vectors}
        return None if norms == {1.0} else f"vectors of lengths {sorted(norms)}"
    if answer["choices"][0]["finish_reason"] not in ("stop", "length"):
        return f"finish_reason {answer['choices'][0]['finish_reason']!r}"
    return _usage_fault(answer["usage"], most=call.body["max_tokens"])


def _stream_fault(content: bytes) -> str | None:
    events = [line.removeprefix(b"data: ") for line in content.split(b"\n\n") if line]
    if events[-1] != b"[DONE]":
        return f"ends with {events[-1][:200]!r}"
    chunks = [json.loads(event) for event in events[:-1]]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    if [reason for reason in reasons if reason] not in (["stop"], ["length"]):
        return f"finish reasons {reasons}"
    return _usage_fault(chunks[-1]["usage"], most=None)


def _usage_fault(usage: dict[str, int], *, most: int | None) -> str | None:
    adds_up = usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    in_bounds = 1 <= usage["completion_tokens"] <= (most or math.inf)
    return None if adds_up and in_bounds else f"usage {usage}"


async def leave_mid_stream(client: httpx.AsyncClient, body: Mapping[str, Any]) -> bool:
    """Hangs up after the first event; False when the call was refused instead."""
    async with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        if response.status_code == 429:
            return False
        response.raise_for_status()
        parts: AsyncIterator[bytes] = response.aiter_raw()
        async with aclosing(parts) as begun:  # type: ignore[type-var]
            await anext(begun)
    return True
