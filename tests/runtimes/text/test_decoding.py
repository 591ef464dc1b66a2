from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from runtimes.text.decoding import TextAssembler


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer whose tokens are single bytes: the hardest case, each character may be cut anywhere."""
    return bytes(tokens).decode("utf-8", errors="replace")


def assemble(tokens: Sequence[int], *, stop: Sequence[str] = ()) -> list[str]:
    assembler = TextAssembler(decode=decode_bytes, stop=stop)
    return [*(assembler.push(token) for token in tokens), assembler.finish()]


@given(st.text())
def test_the_pieces_join_to_the_text_and_none_has_part_of_a_character(text: str) -> None:
    pieces = assemble(text.encode())

    assert "".join(pieces) == text
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)


@given(st.binary())
def test_bytes_that_are_no_text_come_out_as_the_tokenizer_shows_them(tokens: bytes) -> None:
    assert "".join(assemble(tokens)) == decode_bytes(tokens)


@given(st.text(alphabet="ab🦊"), st.lists(st.text(alphabet="ab🦊", min_size=1, max_size=4), max_size=3))
def test_nothing_at_or_after_the_first_stop_sequence_comes_out(text: str, stop: list[str]) -> None:
    expected = text
    for end in range(len(text) + 1):
        found = [text.find(item, 0, end) for item in stop if text.find(item, 0, end) >= 0]
        if found:
            expected = text[: min(found)]
            break

    assert "".join(assemble(text.encode(), stop=stop)) == expected


def test_a_piece_comes_as_soon_as_it_is_certain() -> None:
    assert assemble("a🦊b".encode(), stop=["bc"]) == ["a", "", "", "", "🦊", "", "b"]


def test_it_says_that_it_stopped_and_ignores_what_follows() -> None:
    assembler = TextAssembler(decode=decode_bytes, stop=["."])

    pieces = [assembler.push(token) for token in b"Yes. No"]

    assert (assembler.stopped, "".join(pieces) + assembler.finish()) == (True, "Yes")
