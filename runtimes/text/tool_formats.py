"""How models are told of functions, and how they call them.

A chat template that knows `tools` tells its model in the words it was trained on, and what it shows of
earlier calls says which marks the model puts around its own. A template that does not know tools gets them as
text: in the system message, in the format that most models were trained on.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtimes.text.schema_rules import schema_rule
from runtimes.text.tool_calls import Marks

MOST_CALLS = 8
"""Calls in one answer that must have some; a small model might go on for ever."""
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: Mapping[str, Any] | None
    """JSON schema of the arguments; None = the function takes none."""
    strict: bool
    """Whether the arguments of every call must follow the schema to the letter."""

    def for_template(self) -> dict[str, Any]:
        """As chat templates know it, which is as the OpenAI protocol has it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        return {
            "type": "function",
            "function": {**function, "parameters": dict(self.parameters or NO_PARAMETERS)},
        }


@dataclass(frozen=True, kw_only=True)
class ToolFormat:
    """What one family of models does."""

    name: str
    marks: Marks
    arguments: str
    """The key of the arguments."""
    before: str
    """Between the mark that begins and the first call."""
    between: str
    """Between calls; empty = an answer has one at most."""
    after: str
    make_id: Callable[[], str]

    def grammar(
        self,
        tools: Sequence[Tool],
        *,
        required: bool,
        parallel: bool,
        special_tokens: Mapping[str, int],
    ) -> str:
        """A grammar in llguidance's Lark for answers with calls of these tools: one at least when
        `required`, else text that may have some.
        """
        begin = self.marks.begin
        mark = f"<[{special_tokens[begin]}]>" if begin in special_tokens else json.dumps(begin)
        most = MOST_CALLS if parallel and self.between else 1
        rules = [
            f"calls: {json.dumps(self.before)} call ({json.dumps(self.between)} call){{0,{most - 1}}} "
            f"{json.dumps(self.after)}"
            if most > 1
            else f"calls: {json.dumps(self.before)} call {json.dumps(self.after)}",
            "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
        ]
        for index, tool in enumerate(tools):
            head = f'{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
            schema = schema_rule(tool.parameters or NO_PARAMETERS, lenient=not tool.strict)
            rules.append(f'call_{index}: {json.dumps(head)} {schema} "}}"')
        return "\n".join([*self._start(mark, begin in special_tokens, required=required), *rules])

    def _start(self, mark: str, is_token: bool, *, required: bool) -> list[str]:
        if required:
            return ["start: calls" if self.marks.bare else f"start: {mark} calls"]
        if self.marks.bare:
            return ["start: calls | TEXT?", r"TEXT: /[^{\s](.|\n)*/"]
        if is_token:
            return [f"start: TEXT? | TEXT? {mark} calls", r"TEXT: /(.|\n)+/"]
        return ["start: TEXT? | begin calls", f"begin[lazy]: /(.|\\n)*/ {mark}", r"TEXT: /(.|\n)+/"]


def _long_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short_id() -> str:
    """Mistral's templates take nothing else than nine letters or digits."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


HERMES = ToolFormat(
    name="hermes",
    marks=Marks(begin="<tool_call>", end="</tool_call>"),
    arguments="arguments",
    before="\n",
    between="\n</tool_call>\n<tool_call>\n",
    after="\n</tool_call>",
    make_id=_long_id,
)
"""Hermes, Qwen, SmolLM2 and many more: one object in each pair of tags."""
LLAMA = ToolFormat(
    name="llama",
    marks=Marks(begin="<|python_tag|>", bare=True),
    arguments="parameters",
    before="",
    between="",
    after="",
    make_id=_long_id,
)
"""Llama 3: the answer is one object."""
MISTRAL = ToolFormat(
    name="mistral",
    marks=Marks(begin="[TOOL_CALLS]"),
    arguments="arguments",
    before="[",
    between=", ",
    after="]",
    make_id=_short_id,
)
"""Mistral: a list of objects after a special token."""

# What a template writes around earlier calls, or tells its model to write.
_SIGNS = (("[TOOL_CALLS]", MISTRAL), ("<tool_call>", HERMES), ("<|python_tag|>", LLAMA), ("ipython", LLAMA))


def format_of(template: str) -> ToolFormat | None:
    """The format that a chat template teaches; None when it knows no tools, or none of these formats."""
    if "tools" not in template:
        return None
    return next((style for sign, style in _SIGNS if sign in template), None)


def tell_in_text(messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The conversation for a template that knows only text and the roles system, user and assistant."""
    told: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            if told and told[-1].get("responses"):
                told[-1]["content"] += f"\n{text}"
            else:
                told.append({"role": "user", "content": text, "responses": True})
        elif message.get("tool_calls"):
            calls = [_call_text(call["function"]) for call in message["tool_calls"]]
            told.append({"role": message["role"], "content": "\n".join([message["content"], *calls]).strip()})
        else:
            told.append(dict(message))
    if tools:
        manual = _manual(tools)
        if told[0]["role"] == "system":
            told[0]["content"] = f"{told[0]['content']}\n\n{manual}".strip()
        else:
            told.insert(0, {"role": "system", "content": manual})
    return [{"role": message["role"], "content": message["content"]} for message in told]


def _call_text(function: Mapping[str, Any]) -> str:
    call = {"name": function["name"], "arguments": function["arguments"]}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _manual(tools: Sequence[Tool]) -> str:
    listed = "\n".join(json.dumps(tool.for_template()["function"], ensure_ascii=False) for tool in tools)
    return (
        "You can call functions. These are described within <tools></tools>, one on each line, the arguments "
        f"as a JSON schema:\n<tools>\n{listed}\n</tools>\n"
        "To call one, answer with a JSON object with its name and its arguments within tags, and nothing "
        'else:\n<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>\n'
        "The result comes within <tool_response></tool_response>. Answer in words when no call is needed."
    )
