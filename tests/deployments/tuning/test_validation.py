import json
from typing import Any

import pytest

from deployments.tuning.validation import LineError, validate_chat_file


def chat(*messages: tuple[str, str]) -> bytes:
    rows = [{"role": role, "content": content} for role, content in messages]
    return json.dumps({"messages": rows}).encode() + b"\n"


GOOD = [chat(("user", f"Question {number}?"), ("assistant", f"Answer {number}.")) for number in range(10)]


def errors(bad: bytes, *, at: int = 7) -> list[tuple[int, str, str]]:
    verdict = validate_chat_file([*GOOD[: at - 1], bad, *GOOD[at:]])
    return [(error.line, error.field, error.code) for error in verdict.errors]


def test_a_good_file_is_counted() -> None:
    verdict = validate_chat_file(GOOD)
    assert verdict.accepted
    assert verdict.report() == {
        "examples": 10,
        "messages": 20,
        "estimated_tokens": 350,
        "longest_example_estimated_tokens": 35,
        "duplicates": 0,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("line", "field", "code"),
    [
        (b"\n", "", "empty_line"),
        (b"not json\n", "", "invalid_json"),
        (b"[1]\n", "", "data_type"),
        (b"[" * 100_000 + b"\n", "", "invalid_json"),
        (b'{"messages": "hello"}\n', "messages", "missing_messages_list"),
        (b'{"messages": []}\n', "messages", "missing_messages_list"),
        (b'{"prompt": "x", "messages": []}\n', "prompt", "unrecognized_key"),
        (b'{"messages": ["hello"]}\n', "messages.0", "data_type"),
        (b'{"messages": [{"role": "user"}]}\n', "messages.0.content", "message_missing_key"),
        (
            b'{"messages": [{"role": "user", "content": "x", "tone": "y"}]}\n',
            "messages.0.tone",
            "message_unrecognized_key",
        ),
        (chat(("robot", "hello")), "messages.0.role", "unrecognized_role"),
        (chat(("user", " "), ("assistant", "x")), "messages.0.content", "missing_content"),
        (chat(("user", "hello")), "messages", "example_missing_assistant_message"),
        (
            b'{"messages": [{"role": "assistant", "content": "x", "weight": 0}]}',
            "messages",
            "example_missing_assistant_message",
        ),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}\n', "", "invalid_utf8"),
        (b'{"messages": [{"role": "assistant", "content": "\\ud83d"}]}\n', "", "invalid_utf8"),
        (b'{"\\uD83D": 1}\n', "", "invalid_utf8"),
        (b"x" * 1_000_001, "", "line_too_long"),
    ],
)
def test_a_bad_line_is_named_with_its_field(line: bytes, field: str, code: str) -> None:
    assert errors(line) == [(7, field, code)]


def test_every_bad_line_is_told() -> None:
    lines = [*GOOD, chat(("robot", "x")), *GOOD, b"\n"]
    assert [(error.line, error.code) for error in validate_chat_file(lines).errors] == [
        (11, "unrecognized_role"),
        (22, "empty_line"),
    ]


def test_a_message_says_what_would_be_right() -> None:
    (error,) = validate_chat_file([*GOOD, chat(("robot", "x"))]).errors
    assert error == LineError(
        line=11,
        field="messages.0.role",
        code="unrecognized_role",
        message="'robot' is no role; there are: system, user, assistant.",
    )


def test_of_a_thousand_errors_a_hundred_are_told_and_all_are_counted() -> None:
    verdict = validate_chat_file([b"\n"] * 1000)
    assert (len(verdict.errors), verdict.error_count) == (100, 1000)


@pytest.mark.parametrize("lines", [[], GOOD[:3]])
def test_too_few_examples_are_refused(lines: list[bytes]) -> None:
    assert [error.code for error in validate_chat_file(lines).errors] == ["too_few_examples"]


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    lines = [line.replace(b"\n", b"\r\n") for line in GOOD]
    assert validate_chat_file([b"\xef\xbb\xbf" + lines[0], *lines[1:]]).accepted


def test_copies_are_counted_and_warned_of() -> None:
    report: dict[str, Any] = validate_chat_file([*GOOD, GOOD[0]]).report()
    assert report["duplicates"] == 1
    assert report["warnings"] == ["1 examples are exact copies of others."]
