from pathlib import Path

import pytest

from runtimes.tune.chats import Chat, Message, read_chats
from runtimes.tune.failures import BadInput

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ahoy"}]}'


def test_it_reads_past_blank_lines_a_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode())
    messages = (Message("user", "Hi", False), Message("assistant", "Ahoy", True))
    assert read_chats(file) == [Chat(1, messages), Chat(3, messages)]


def test_an_answer_of_weight_0_is_context_only(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    turn = '{"role": "assistant", "content": "no", "weight": 0}'
    file.write_text(GOOD.replace('{"role": "user"', f'{turn}, {{"role": "user"', 1))
    assert [message.trained for message in read_chats(file)[0].messages] == [False, False, True]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ("\udcff", "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected"),
        ('{"messages": []}', "expected"),
        (GOOD.replace("user", "robot"), "role"),
        (GOOD.replace('"Hi"', "7"), "content"),
        (GOOD.replace("assistant", "user"), "no message of the assistant"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, message: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(f"{GOOD}\n\n{bad}\n{GOOD}".encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=message) as refused:
        read_chats(file)
    assert refused.value.line == 3


def test_a_file_without_examples_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("\n\n")
    with pytest.raises(BadInput, match="no example"):
        read_chats(file)
