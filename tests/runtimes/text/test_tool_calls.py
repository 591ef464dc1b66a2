"""Calls in what models write, however the text is cut on its way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.text.tool_calls import Argued, CallBegan, CallReader, Said, Spoken
from runtimes.text.tool_formats import HERMES, LLAMA, MISTRAL, ToolFormat

NAMES = ("weather", "time")


def read(pieces: Sequence[str], *, style: ToolFormat) -> tuple[str, list[tuple[str, str]], list[Spoken]]:
    """Text, (name, arguments) of each call, and everything in its order."""
    reader = CallReader(style.marks, names=NAMES)
    spoken = [item for piece in pieces for item in reader.push(piece)] + reader.finish()
    calls = [item.name for item in spoken if isinstance(item, CallBegan)]
    arguments = [""] * len(calls)
    for item in spoken:
        if isinstance(item, Argued):
            arguments[item.index] += item.fragment
    text = "".join(item.text for item in spoken if isinstance(item, Said))
    return text, list(zip(calls, arguments, strict=True)), spoken


ANSWERS = [
    (HERMES, "Hello.", "Hello.", []),
    (HERMES, "  Hello \n", "  Hello \n", []),
    (
        HERMES,
        'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>\n',
        "I look.",
        [("weather", '{"city": "Paris"}')],
    ),
    (
        HERMES,
        '<tool_call>{"name": "weather", "arguments": {}}</tool_call>\n'
        '<tool_call>\n{"arguments": {"at": [1, {"}": "]"}]} , "name": "time"}\n</tool_call> Done.',
        "Done.",
        [("weather", "{}"), ("time", '{"at": [1, {"}": "]"}]}')],
    ),
    (
        HERMES,
        '<tool_call>[{"name": "time"}, {"name": "weather", "arguments": "{\\"a\\": 1}"}]</tool_call>',
        "",
        [("time", "{}"), ("weather", '{"a": 1}')],
    ),
    (
        HERMES,
        'See <tool_call>{"name": "rm", "arguments": {}}</tool_call>!',
        'See <tool_call>{"name": "rm", "arguments": {}}</tool_call>!',
        [],
    ),
    (HERMES, "a <tool_call> b {c}", "a <tool_call> b {c}", []),
    (HERMES, "<tool_call>\n{1: 2} and", "<tool_call>\n{1: 2} and", []),
    (HERMES, '<tool_call>{"name": "time", "arguments": {"a": "b', "", [("time", '{"a": "b')]),
    (HERMES, '<tool_call>{"name": "ti', '<tool_call>{"name": "ti', []),
    (HERMES, '{"name": "time", "arguments": {}}', '{"name": "time", "arguments": {}}', []),
    (HERMES, "a <tool", "a <tool", []),
    (
        LLAMA,
        ' {"name": "time", "parameters": {"zone": "a\\"}{"}}',
        "",
        [("time", '{"zone": "a\\"}{"}')],
    ),
    (
        LLAMA,
        '<|python_tag|>{"name": "time", "parameters": {}}; {"name": "weather", "parameters": {}}',
        "",
        [("time", "{}"), ("weather", "{}")],
    ),
    (LLAMA, '{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
    (LLAMA, '{"a": 1} is JSON.', '{"a": 1} is JSON.', []),
    (LLAMA, 'So: {"name": "time"}', 'So: {"name": "time"}', []),
    (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "time", "arguments": {"a": 1}}, {"name": "weather", "arguments": {}}]',
        "",
        [("time", '{"a": 1}'), ("weather", "{}")],
    ),
]


@pytest.mark.parametrize(("style", "answer", "text", "calls"), ANSWERS)
def test_it_finds_the_calls_of_an_answer(
    style: ToolFormat, answer: str, text: str, calls: list[tuple[str, str]]
) -> None:
    assert read([answer], style=style)[:2] == (text, calls)
    assert read(list(answer), style=style)[:2] == (text, calls)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=8))
def test_it_finds_the_same_however_the_text_is_cut(
    case: tuple[ToolFormat, str, str, list[tuple[str, str]]], cuts: list[int]
) -> None:
    style, answer, text, calls = case
    edges = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    pieces = [answer[start:end] for start, end in zip(edges, edges[1:], strict=False)]

    assert read(pieces, style=style)[:2] == (text, calls)


@given(st.text(alphabet='<tool_cal>/{}[]":,\\ namergus1\n', max_size=60))
def test_text_that_calls_nothing_comes_out_as_it_went_in(text: str) -> None:
    for style in (HERMES, LLAMA, MISTRAL):
        assert read(list(text), style=style)[:2] == (text, [])


def test_arguments_come_as_they_are_written() -> None:
    pieces = ['<tool_call>{"name": "time", ', '"arguments": {"zo', 'ne": "CET', '"}}', "</tool_call>"]

    assert read(pieces, style=HERMES)[2] == [
        CallBegan(0, "time"),
        Argued(0, '{"zo'),
        Argued(0, 'ne": "CET'),
        Argued(0, '"}'),
    ]
