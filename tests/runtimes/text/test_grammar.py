"""Which answers grammars let through, with the real tokenizer of a real model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runtimes.text.grammar import Grammar, GrammarCompiler
from runtimes.text.schema_rules import GrammarRefused
from runtimes.text.tool_formats import HERMES, LLAMA, MISTRAL, Tool, ToolFormat

pytestmark = pytest.mark.weights

WEATHER = Tool(
    name="weather",
    description=None,
    parameters={
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"city": {"type": "string"}},
    },
    strict=True,
)
CLOCK = Tool(name="clock", description=None, parameters=None, strict=False)
PARIS = '{"name": "weather", "arguments": {"city": "Paris"}}'
NOW = '{"name": "clock", "arguments": {}}'


@pytest.fixture(scope="module")
def tokenizer(smollm_folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(smollm_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    return tokenizer


@pytest.fixture(scope="module")
def compiler(tokenizer: Any) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, vocabulary=len(tokenizer) + 100, end_tokens=[2])


def passes(grammar: Grammar, text: str, *, tokenizer: Any) -> bool:
    """Whether this, and then the end, may be written."""
    constraint = grammar.constrain()
    for token in [*tokenizer.encode(text), 2]:
        if not constraint.allowed()[token]:
            return False
        constraint.accept(token)
    return True


@pytest.mark.parametrize(
    ("style", "special", "required", "right", "wrong"),
    [
        (
            HERMES,
            {},
            True,
            [
                f"<tool_call>\n{PARIS}\n</tool_call>",
                f"<tool_call>\n{NOW}\n</tool_call>\n<tool_call>\n{PARIS}\n</tool_call>",
            ],
            ["Paris.", PARIS, "<tool_call>\n{}\n</tool_call>", f"<tool_call>\n{PARIS}\n</tool_call> Done."],
        ),
        (
            HERMES,
            {},
            False,
            ["Paris.", "", f"I look. <tool_call>\n{PARIS}\n</tool_call>"],
            ['<tool_call>\n{"name": "weather", "arguments": {"city": 1}}\n</tool_call>'],
        ),
        (
            LLAMA,
            {},
            True,
            [PARIS.replace("arguments", "parameters")],
            [PARIS, "Paris", ""],
        ),
        (LLAMA, {}, False, ["Paris", "", PARIS.replace("arguments", "parameters")], ['{"name": "other"}']),
        (
            MISTRAL,
            {"[TOOL_CALLS]": 49152},
            True,
            [f"[TOOL_CALLS][{PARIS}]", f"[TOOL_CALLS][{NOW}, {PARIS}]"],
            [f"[{PARIS}]", "[TOOL_CALLS][]"],
        ),
        (
            MISTRAL,
            {"[TOOL_CALLS]": 49152},
            False,
            ["Paris [1].", f"[TOOL_CALLS][{PARIS}]"],
            ["[TOOL_CALLS]no"],
        ),
    ],
    ids=["hermes-forced", "hermes-free", "llama-forced", "llama-free", "mistral-forced", "mistral-free"],
)
async def test_only_calls_that_fit_their_functions_can_be_written(
    compiler: GrammarCompiler,
    tokenizer: Any,
    style: ToolFormat,
    special: Mapping[str, int],
    required: bool,
    right: list[str],
    wrong: list[str],
) -> None:
    lark = style.grammar([WEATHER, CLOCK], required=required, parallel=True, special_tokens=special)
    grammar = await compiler.compile_lark(lark)

    assert {text: passes(grammar, text, tokenizer=tokenizer) for text in right + wrong} == {
        **dict.fromkeys(right, True),
        **dict.fromkeys(wrong, False),
    }


async def test_without_parallel_calls_there_is_one(compiler: GrammarCompiler, tokenizer: Any) -> None:
    lark = HERMES.grammar([CLOCK], required=True, parallel=False, special_tokens={})
    grammar = await compiler.compile_lark(lark)
    one = f"<tool_call>\n{NOW}\n</tool_call>"

    assert passes(grammar, one, tokenizer=tokenizer)
    assert not passes(grammar, f"{one}\n{one}", tokenizer=tokenizer)


async def test_a_mask_has_all_of_the_vocabulary_and_nothing_of_its_padding(
    compiler: GrammarCompiler, tokenizer: Any
) -> None:
    mask = (await compiler.compile_json({"type": "object"})).constrain().allowed()

    assert len(mask) >= len(tokenizer)
    assert mask.any()
    assert not mask[len(tokenizer) :].any()


async def test_answers_of_one_grammar_are_independent(compiler: GrammarCompiler, tokenizer: Any) -> None:
    grammar = await compiler.compile_json({"enum": ["a", "b"]})
    first, second = grammar.constrain(), grammar.constrain()
    for token in tokenizer.encode('"a"'):
        first.accept(token)

    assert first.allowed().nonzero().flatten().tolist() == [2]
    assert not second.allowed()[2]


async def test_the_fault_of_a_large_schema_is_not_looked_for_without_end(compiler: GrammarCompiler) -> None:
    properties: dict[str, Any] = {f"number {index}": {"type": "integer"} for index in range(300)}
    schema = {"type": "object", "properties": {"town": {"properties": properties | {"last": {"type": "x"}}}}}
    with pytest.raises(GrammarRefused) as refused:
        await compiler.compile_json(schema)
    assert refused.value.place == ("properties", "town")


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": "text"}, (), "Invalid type: text"),
        (
            {"properties": {"a": {"anyOf": [{"type": "string"}, {"not": {}}]}}},
            ("properties", "a", "anyOf", 1),
            'Unimplemented keys: ["not"]',
        ),
        (
            {"type": "array", "items": {"$ref": "#/$defs/missing"}},
            ("items",),
            "Pointer '/$defs/missing' does not exist",
        ),
        (
            {"$defs": {"n": {"type": "object", "required": 1}}, "properties": {"m": {"$ref": "#/$defs/n"}}},
            ("$defs", "n"),
            "Expected array for 'required', got 1",
        ),
        (
            {"properties": {"a": {"x-guidance": {"lenient": True}}}},
            ("properties", "a", "x-guidance"),
            "x-guidance is not a keyword of JSON Schema",
        ),
        ({"properties": {"a": 5}}, ("properties", "a"), "schema must be an object or boolean"),
    ],
)
async def test_a_schema_that_cannot_be_held_is_refused_with_its_place(
    compiler: GrammarCompiler, schema: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(GrammarRefused) as refused:
        await compiler.compile_json(schema)

    assert (refused.value.place, str(refused.value)) == (place, message)


async def test_what_cannot_be_held_is_left_out_where_that_is_allowed(compiler: GrammarCompiler) -> None:
    await compiler.check_schema({"properties": {"a": {"type": "array", "uniqueItems": True}}}, lenient=True)


async def test_compiling_does_not_hold_up_the_event_loop(compiler: GrammarCompiler) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    await compiler.compile_json(wide)
    beating.cancel()

    assert beats > 1
