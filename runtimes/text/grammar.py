"""What an answer must look like, held token by token: JSON, a JSON schema, or a grammar of its own.

llguidance keeps the parser and says at each step which tokens of the vocabulary may follow; the engine lets
no other be chosen. So even a small model that was never trained for it writes what can be parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits
from llguidance.hf import from_tokenizer

from runtimes.text.schema_rules import OPTIONS, GrammarRefused, Schema, with_options

_LIMITS = LLParserLimits(max_grammar_size=100_000, max_lexer_states=100_000, initial_lexer_fuel=10_000_000)

_MOST_TRIALS = 200
"""Compilations of a schema to find its fault. It is not worth more of a server that others wait for."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_IN_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if")


class Grammar:
    """A compiled grammar, from which each answer gets a constraint of its own."""

    def __init__(self, matcher: LLMatcher, *, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def constrain(self) -> GrammarConstraint:
        """A new constraint, at its beginning."""
        return GrammarConstraint(self._matcher.deep_copy(), vocabulary=self._vocabulary)


class GrammarConstraint:
    """Where one answer stands in its grammar. Satisfies `runtimes.text.engine.Constraint`."""

    def __init__(self, matcher: LLMatcher, *, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def allowed(self) -> torch.Tensor:
        """Bool [vocabulary]; the end token alone once nothing can follow."""
        bits = self._matcher.compute_bitmask()
        self._check()
        mask = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
        return torch.from_numpy(mask.view(np.bool_)[: self._vocabulary])

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(f"the answer left its grammar: {self._matcher.get_error()}")


class GrammarCompiler:
    """Compiles grammars for one tokenizer, in threads beside the event loop."""

    def __init__(self, tokenizer: Any, *, vocabulary: int, end_tokens: Sequence[int]) -> None:
        # A second or two of work, done while the weights are loaded and the model warms up.
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammar")
        self._vocabulary = vocabulary
        # A tokenizer may know tokens that the model has no logits for, and a model more logits than tokens.
        known = max(vocabulary, len(tokenizer))
        self._tokenizer = pool.submit(
            from_tokenizer, tokenizer, n_vocab=known, eos_token=list(end_tokens) or None
        )
        pool.shutdown(wait=False)
        self._ids: Mapping[str, int] = {
            str(token): number for number, token in tokenizer.added_tokens_decoder.items()
        }

    async def wait_ready(self) -> None:
        """Returns when the vocabulary has been read; nothing waits for it any more."""
        await asyncio.to_thread(self._tokenizer.result)

    def special_token(self, mark: str) -> int | None:
        """The id of a special token; None when the model writes this mark as text."""
        found = self._ids.get(mark)
        return found if found is not None and self._tokenizer.result().is_special_token(found) else None

    async def compile_json(self, schema: Schema) -> Grammar:
        """For answers that are JSON of this schema. Raises GrammarRefused."""
        return await asyncio.to_thread(self._compile_schema, schema)

    async def compile_lark(self, lark: str) -> Grammar:
        """For answers in a grammar of llguidance's dialect of Lark, whose schemas were checked before."""
        return await asyncio.to_thread(self._compile_lark, lark)

    async def check_schema(self, schema: Schema, *, lenient: bool = False) -> None:
        """Raises GrammarRefused for a schema that cannot be held.

        `lenient` leaves out keywords that are valid but cannot be held.
        """
        await asyncio.to_thread(self._check, schema, lenient=lenient)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, part of a character perhaps."""
        return self._tokenizer.result().decode_bytes([token])

    def _compile_schema(self, schema: Schema) -> Grammar:
        self._check(schema, lenient=False)
        matcher = LLMatcher(self._tokenizer.result(), _grammar_of(schema, lenient=False), limits=_LIMITS)
        return Grammar(matcher, vocabulary=self._vocabulary)

    def _compile_lark(self, lark: str) -> Grammar:
        matcher = LLMatcher(self._tokenizer.result(), lark, limits=_LIMITS)
        if matcher.is_error():
            raise GrammarRefused(_first_line(matcher.get_error()), place=())
        return Grammar(matcher, vocabulary=self._vocabulary)

    def _check(self, schema: Schema, *, lenient: bool) -> None:
        tokenizer = self._tokenizer.result()

        def fault_of(candidate: Schema) -> str:
            grammar = _grammar_of(candidate, lenient=lenient)
            failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, tokenizer, limits=_LIMITS)
            return _first_line(messages[0]) if failed else ""

        for place, part in _walk(schema, place=()):
            if isinstance(part, Mapping) and OPTIONS in part:
                raise GrammarRefused(f"{OPTIONS} is not a keyword of JSON Schema", place=(*place, OPTIONS))
        fault = fault_of(schema)
        if fault:
            place = _locate(schema, fault=fault, fault_of=fault_of)
            raise GrammarRefused(fault, place=place)


def _grammar_of(schema: Schema, *, lenient: bool) -> str:
    return LLMatcher.grammar_from_json_schema(with_options(schema, lenient=lenient))


def _locate(schema: Schema, *, fault: str, fault_of: Any) -> tuple[str | int, ...]:
    """The innermost part without which the schema has not this fault; the library does not tell. Of a large
    schema the part that `_MOST_TRIALS` compilations lead to, which holds it.
    """
    place: tuple[str | int, ...] = ()
    trials = 0
    while True:
        for key in _parts(_at(schema, place)):
            trials += 1
            if trials > _MOST_TRIALS:
                return place
            if fault_of(_without(schema, (*place, *key))) != fault:
                place = (*place, *key)
                break
        else:
            return place


def _walk(part: Any, *, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    yield place, part
    for key in _parts(part):
        yield from _walk(_at(part, key), place=(*place, *key))


def _parts(part: Any) -> Iterator[tuple[str | int, ...]]:
    """Where the schemas directly in this one are."""
    if not isinstance(part, Mapping):
        return
    for keyword, value in part.items():
        if keyword in _BY_NAME and isinstance(value, Mapping):
            yield from ((keyword, name) for name in value)
        elif keyword in _IN_LIST and isinstance(value, list):
            yield from ((keyword, index) for index in range(len(value)))
        elif keyword in _SINGLE:
            yield (keyword,)


def _at(schema: Any, place: Sequence[str | int]) -> Any:
    for key in place:
        schema = schema[key]
    return schema


def _without(schema: Any, place: Sequence[str | int]) -> Any:
    """The schema with the part at this place replaced by one that anything satisfies."""
    if not place:
        return {}
    key, *rest = place
    changed = list(schema) if isinstance(schema, list) else dict(schema)
    changed[key] = _without(schema[key], rest)  # type: ignore[index]
    return changed


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "it cannot be compiled"
