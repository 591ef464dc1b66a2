"""Reads chat examples from JSONL. Imports no torch, so that a bad line is told within a second.

The control plane has validated the file before (`deployments.tuning.validation`, with all errors at once);
this is the last line of defense, and stops at the first error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.tune.failures import BadInput

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    role: str
    content: str
    trained: bool
    """Whether the model learns to say it: an assistant's message whose weight is not 0."""


@dataclass(frozen=True)
class Chat:
    line: int
    messages: tuple[Message, ...]


def read_chats(path: Path) -> list[Chat]:
    """Every example of a file; blank lines are passed over. Raises BadInput with the line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read: {error.strerror or error}") from error
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    chats = [_read_chat(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not chats:
        raise BadInput(f"{path.name} has no example; write one JSON object a line")
    return chats


def _read_chat(line: bytes, number: int) -> Chat:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON in UTF-8: {error}", line=number) from error
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        raise BadInput('expected {"messages": [{"role": ..., "content": ...}, ...]}', line=number)
    chat = Chat(number, tuple(_read_message(message, number) for message in messages))
    if not any(message.trained for message in chat.messages):
        raise BadInput("no message of the assistant to learn from", line=number)
    return chat


def _read_message(value: Any, number: int) -> Message:
    match value:
        case {"role": str(role), "content": str(content)} if role in ROLES:
            return Message(role, content, role == "assistant" and value.get("weight", 1) != 0)
    raise BadInput(f"a message needs a role ({', '.join(ROLES)}) and a content as text", line=number)
