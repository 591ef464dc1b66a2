"""Checks a chat dataset line by line, before anything is billed. Pure: bytes in, a verdict out.

The format is that of OpenAI's fine-tuning files: one JSON object a line,
{"messages": [{"role", "content"}, …]}. Error codes follow the names that OpenAI's cookbook uses for its
checks (Chat_finetuning_data_prep.ipynb), so that tools which know them keep working.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant")
MESSAGE_KEYS = ("role", "content", "name", "weight")
MOST_ERRORS = 100
"""Errors that are told; more are counted."""
MIN_EXAMPLES = 4
"""Fewer leave nothing to learn from once some are held out."""
LONGEST_LINE = 1_000_000
"""Bytes."""
BYTES_PER_TOKEN = 4.0
"""Of English text; what a token is differs by model, so counts made with it are estimates."""
TOKENS_PER_MESSAGE = 5
"""Role markers and line ends that chat templates add around a message."""
TOKENS_PER_HEADER = 20
"""What most templates put before a chat that has no system message: a date, or a message of their own."""


@dataclass(frozen=True, kw_only=True)
class LineError:
    """What is wrong with one line. `line` counts from 1; `field` is a path such as messages.0.role."""

    line: int
    field: str
    code: str
    message: str


@dataclass
class Verdict:
    """What a file was found to hold."""

    examples: int = 0
    messages: int = 0
    tokens: int = 0
    """Estimated, per epoch."""
    longest_example_tokens: int = 0
    duplicates: int = 0
    without_system_message: int = 0
    errors: list[LineError] = field(default_factory=list)
    error_count: int = 0

    @property
    def accepted(self) -> bool:
        return self.error_count == 0

    def report(self) -> dict[str, Any]:
        """What is stored with an accepted file."""
        warnings = []
        if self.duplicates:
            warnings.append(f"{self.duplicates} examples are exact copies of others.")
        if self.examples < 10:
            warnings.append("Fewer than 10 examples rarely change what a model answers.")
        return {
            "examples": self.examples,
            "messages": self.messages,
            "estimated_tokens": self.tokens,
            "longest_example_estimated_tokens": self.longest_example_tokens,
            "duplicates": self.duplicates,
            "warnings": warnings,
        }

    def errors_json(self) -> list[dict[str, Any]]:
        return [asdict(error) for error in self.errors]


def validate_chat_file(lines: Iterable[bytes]) -> Verdict:
    """Reads every line, whatever is wrong with those before it."""
    verdict = Verdict()
    seen: set[int] = set()
    number = 0
    for number, raw in enumerate(lines, start=1):
        errors = _check_line(raw, number, verdict, seen)
        verdict.error_count += len(errors)
        verdict.errors += errors[: max(0, MOST_ERRORS - len(verdict.errors))]
    if verdict.error_count == 0 and verdict.examples < MIN_EXAMPLES:
        verdict.error_count = 1
        verdict.errors.append(
            LineError(
                line=number,
                field="",
                code="too_few_examples",
                message=f"The file has {verdict.examples} examples; at least {MIN_EXAMPLES} are needed.",
            )
        )
    return verdict


def _check_line(raw: bytes, number: int, verdict: Verdict, seen: set[int]) -> list[LineError]:
    def error(field: str, code: str, message: str) -> list[LineError]:
        return [LineError(line=number, field=field, code=code, message=message)]

    if len(raw) > LONGEST_LINE:
        return error("", "line_too_long", f"The line has more than {LONGEST_LINE} bytes.")
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as wrong:
        byte = raw[wrong.start]
        return error("", "invalid_utf8", f"Byte {byte:#04x} at position {wrong.start} is not UTF-8.")
    if not text.strip():
        return error("", "empty_line", "The line is empty; remove it.")
    try:
        example = json.loads(text)
    except ValueError as wrong:
        return error("", "invalid_json", f"The line is not JSON: {wrong}.")
    except RecursionError:
        return error("", "invalid_json", "The line is nested too deeply.")
    if "\\ud" in text.lower() and _has_half_character(example):
        return error("", "invalid_utf8", "A text has half a character (\\ud800 to \\udfff alone).")
    if not isinstance(example, dict):
        return error("", "data_type", 'A line is an object: {"messages": […]}.')
    unknown = sorted(set(example) - {"messages"})
    if unknown:
        return error(unknown[0], "unrecognized_key", "Only 'messages' is known here; remove the rest.")
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        return error("messages", "missing_messages_list", "'messages' is a list of at least one message.")
    errors = [wrong for index, item in enumerate(messages) for wrong in _check_message(item, index, number)]
    if errors:
        return errors
    if not any(message["role"] == "assistant" and message.get("weight", 1) for message in messages):
        return error(
            "messages",
            "example_missing_assistant_message",
            "No message has the role 'assistant' (and a weight other than 0) to learn from.",
        )
    _count(messages, text, verdict, seen)
    return []


def _has_half_character(example: Any) -> bool:
    """Whether an escape left half of a surrogate pair, which no UTF-8 can hold."""
    try:
        json.dumps(example, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _check_message(message: Any, index: int, line: int) -> list[LineError]:
    path = f"messages.{index}"

    def error(field: str, code: str, text: str) -> list[LineError]:
        return [LineError(line=line, field=field, code=code, message=text)]

    if not isinstance(message, Mapping):
        return error(path, "data_type", 'A message is an object: {"role": …, "content": …}.')
    missing = [key for key in ("role", "content") if key not in message]
    if missing:
        return error(f"{path}.{missing[0]}", "message_missing_key", f"The message has no '{missing[0]}'.")
    unknown = sorted(set(message) - set(MESSAGE_KEYS))
    if unknown:
        known = ", ".join(MESSAGE_KEYS)
        return error(f"{path}.{unknown[0]}", "message_unrecognized_key", f"Known keys are {known}.")
    if message["role"] not in ROLES:
        known = ", ".join(ROLES)
        return error(
            f"{path}.role", "unrecognized_role", f"{message['role']!r} is no role; there are: {known}."
        )
    content = message["content"]
    if not isinstance(content, str) or not content.strip():
        return error(f"{path}.content", "missing_content", "'content' is a text that is not empty.")
    if "weight" in message and message["weight"] not in (0, 1):
        return error(f"{path}.weight", "weight_not_supported", "'weight' is 0 or 1.")
    return []


def _count(messages: list[dict[str, Any]], text: str, verdict: Verdict, seen: set[int]) -> None:
    tokens = (0 if messages[0]["role"] == "system" else TOKENS_PER_HEADER) + sum(
        round(len(message["content"].encode()) / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE for message in messages
    )
    verdict.examples += 1
    verdict.messages += len(messages)
    verdict.tokens += tokens
    verdict.longest_example_tokens = max(verdict.longest_example_tokens, tokens)
    verdict.without_system_message += messages[0]["role"] != "system"
    digest = hash(text)
    verdict.duplicates += digest in seen
    seen.add(digest)
