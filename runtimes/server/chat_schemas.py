"""The body of /v1/chat/completions: a conversation, functions, and the format of the answer."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from runtimes.server.schemas import Body, GenerationBody

MAX_TOOLS = 128
MAX_TOP_LOGPROBS = 20

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class TextPart(Body):
    type: Literal["text"]
    text: str


class FunctionCall(Body):
    name: FunctionName
    arguments: str

    @field_validator("arguments")
    @classmethod
    def check_object(cls, value: str) -> str:
        try:
            arguments = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"must be JSON: {error}") from error
        if not isinstance(arguments, dict):
            raise ValueError("must be a JSON object")
        return value or "{}"


class ToolCall(Body):
    neutral: ClassVar = {"index": tuple(range(MAX_TOOLS))}  # as accumulated from a stream

    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Body):
    # An answer's message, sent back as it came, carries these.
    neutral: ClassVar = {"annotations": ([],)}

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: list[TextPart] | None = None
    name: str | None = None
    """Of a tool message: the function that was called. Templates know no other names."""
    tool_calls: list[ToolCall] = Field(default=[], max_length=MAX_TOOLS)
    tool_call_id: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def read_content(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        for index, part in enumerate(value if isinstance(value, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind != "text":
                raise ValueError(
                    f"{index}.type: this model reads text; it cannot be given a part of type {kind!r}"
                )
        return value

    @model_validator(mode="after")
    def check_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls: they belong to messages of the assistant, not of {self.role!r}")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id: messages of the role 'tool' need it, and no others may have it")
        if self.name is not None and self.role != "tool":
            raise ValueError("name: it is not honored: chat templates know the role alone; leave it out")
        if self.content is None and not self.tool_calls:
            raise ValueError("content: it is required")
        return self

    def for_template(self) -> dict[str, Any]:
        """As chat templates know it; `developer` is the protocol's newer name of `system`."""
        message: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": "".join(part.text for part in self.content or ()),
        }
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    # Templates write the arguments out as JSON themselves.
                    "function": {
                        "name": call.function.name,
                        "arguments": json.loads(call.function.arguments),
                    },
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            message["name"] = self.name
        return message


class Function(Body):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class ToolBody(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: FunctionName


class ToolChoice(Body):
    """`auto`, `none` and `required` may be written as a plain string."""

    type: Literal["auto", "none", "required", "function"]
    function: NamedFunction | None = None

    @model_validator(mode="before")
    @classmethod
    def accept_word(cls, value: Any) -> Any:
        if value == "function":
            raise ValueError("must be 'auto', 'none', 'required' or an object that names the function")
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def check_name(self) -> Self:
        if (self.function is not None) != (self.type == "function"):
            raise ValueError("must be 'auto', 'none', 'required' or an object that names the function")
        return self


class JsonSchema(Body):
    name: FunctionName
    description: str | None = None
    """Shown to nobody: the schema is held whether the model knows it or not."""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = False
    """The schema is held to the letter either way."""


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def check_schema(self) -> Self:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("json_schema is needed by the type 'json_schema', and by no other")
        return self


class ChatBody(GenerationBody):
    neutral: ClassVar = {
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "store": (False,),
        "metadata": ({},),
        "service_tier": ("auto", "default"),
    }

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[ToolBody] = Field(default=[], max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if (
            None not in (self.max_tokens, self.max_completion_tokens)
            and self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError("max_tokens and max_completion_tokens mean the same; give one of them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError('top_logprobs: it needs "logprobs": true')
        check_tools([tool.function.name for tool in self.tools], choice=self.tool_choice)
        check_calls(self.messages)
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def told_logprobs(self) -> int | None:
        """How many likely tokens to tell with each; None = nothing."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def constrained_by(self) -> str:
        """The field that asks for answers of a certain form."""
        return "tools" if self.tools else "response_format"


def check_tools(names: list[str], *, choice: ToolChoice | None) -> None:
    """Raises ValueError for names that are not unique, and a choice that there is not."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"tools.{index}: there is another function of the name {name!r}")
    if choice is None or choice.type in ("none", "auto"):
        return
    if not names:
        raise ValueError("tool_choice: it needs tools")
    if choice.function is not None and choice.function.name not in names:
        raise ValueError(f"tool_choice: there is no function of the name {choice.function.name!r} in tools")


def check_calls(messages: list[ChatMessage]) -> None:
    """Raises ValueError for a result that answers no call."""
    called: dict[str, str] = {}
    for index, message in enumerate(messages):
        called.update((call.id, call.function.name) for call in message.tool_calls)
        if message.tool_call_id is None:
            continue
        if message.tool_call_id not in called:
            raise ValueError(
                f"messages.{index}.tool_call_id: no message before has a call {message.tool_call_id!r}"
            )
        if message.name not in (None, called[message.tool_call_id]):
            raise ValueError(f"messages.{index}.name: the call was one of {called[message.tool_call_id]!r}")
