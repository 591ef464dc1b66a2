"""What one chat request allows in its answers: functions to call, or a format to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtimes.server.chat_schemas import ResponseFormat, ToolBody, ToolChoice
from runtimes.server.errors import ApiError, name_field
from runtimes.text.model import TextModel
from runtimes.text.schema_rules import GrammarRefused, Schema
from runtimes.text.tool_formats import Tool, ToolFormat

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.text.grammar import Grammar

ANY_OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """How the answers of one request are held and read."""

    grammar: Grammar | None = None
    """None = anything may be written."""
    tools: Sequence[Tool] = ()
    """What the model is told of and may call; empty = calls are not looked for."""
    style: ToolFormat | None = None
    """How the model writes calls, where there are tools."""

    forced: bool = False
    """Whether an answer is calls and nothing else."""

    @property
    def marks(self) -> Sequence[str]:
        """Special tokens that must stay in the text, because they mark calls."""
        return (self.style.marks.begin,) if self.style is not None else ()


async def make_rules(
    *,
    tools: Sequence[ToolBody],
    choice: ToolChoice | None,
    parallel: bool,
    response_format: ResponseFormat | None,
    model: TextModel,
    format_place: Sequence[str] = ("response_format", "json_schema", "schema"),
    flat_tools: bool = False,
) -> AnswerRules:
    """Checks the schemas and compiles what they ask for.

    Raises ApiError 400 that names the place in a schema.

    `format_place` and `flat_tools` say how the request has its fields, for the names in errors.
    """
    wanted = choice.type if choice is not None else "auto"
    if not tools or wanted == "none":
        return AnswerRules(grammar=await _format_grammar(response_format, model=model, place=format_place))
    offered = [_tool_of(tool) for tool in tools]
    for index, tool in enumerate(offered):
        await _check_parameters(
            tool,
            place=("tools", index, *(() if flat_tools else ("function",)), "parameters"),
            model=model,
        )
    style = model.prompts.tool_format
    callable_tools = offered
    if choice is not None and choice.function is not None:
        callable_tools = [tool for tool in offered if tool.name == choice.function.name]
    required = wanted in ("required", "function")
    if response_format is not None and response_format.type != "text" and not required:
        raise ApiError(
            "An answer that may call functions cannot be held to a format too: leave out response_format, "
            'or say "tool_choice": "none" or "required".',
            param=format_place[0],
            code="invalid_value",
        )
    if required:
        # Such an answer is calls and no text: the format holds for nothing, and is checked all the same.
        await _format_grammar(response_format, model=model, place=format_place)
    grammar = None
    if required or any(tool.strict for tool in offered):
        mark = model.grammars.special_token(style.marks.begin)
        grammar = await model.grammars.compile_lark(
            style.grammar(
                callable_tools,
                required=required,
                parallel=parallel and wanted != "function",
                special_tokens={} if mark is None else {style.marks.begin: mark},
            )
        )
    return AnswerRules(grammar=grammar, tools=offered, style=style, forced=required)


def _tool_of(tool: ToolBody) -> Tool:
    function = tool.function
    return Tool(
        name=function.name,
        description=function.description,
        parameters=function.parameters,
        strict=function.strict,
    )


async def _check_parameters(tool: Tool, *, place: Sequence[str | int], model: TextModel) -> None:
    if tool.parameters is None:
        return
    if tool.parameters.get("type", "object") != "object":
        raise ApiError(
            "Arguments of a function are an object; the schema must have the type 'object'.",
            param=name_field([*place, "type"]),
            code="invalid_function_parameters",
        )
    try:
        await model.grammars.check_schema(tool.parameters, lenient=not tool.strict)
    except GrammarRefused as error:
        raise _refuse(error, place=place, code="invalid_function_parameters") from error


async def _format_grammar(
    wanted: ResponseFormat | None, *, model: TextModel, place: Sequence[str]
) -> Grammar | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None:
        return await model.grammars.compile_json(ANY_OBJECT)
    try:
        return await model.grammars.compile_json(wanted.json_schema.schema_)
    except GrammarRefused as error:
        raise _refuse(error, place=place, code="invalid_json_schema") from error


def _refuse(error: GrammarRefused, *, place: Sequence[str | int], code: str) -> ApiError:
    param = name_field([*place, *error.place])
    return ApiError(f"The schema cannot be held at {param}: {error}.", param=param, code=code)
