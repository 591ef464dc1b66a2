"""The body of /v1/responses: the same as a chat's, in newer words. Nothing is stored between requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from runtimes.server.chat_schemas import (
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    ChatMessage,
    FunctionName,
    JsonSchema,
    NamedFunction,
    ResponseFormat,
    ToolBody,
    ToolChoice,
    check_calls,
    check_tools,
)
from runtimes.server.schemas import Body, GenerationBody, StreamOptions

LOGPROBS = "message.output_text.logprobs"
_NOT_STORED = "nothing is stored here; send the whole conversation as input"


class InputPart(Body):
    neutral: ClassVar = {"annotations": ([],), "logprobs": ([],)}

    type: Literal["input_text", "output_text"]
    text: str


class InputItem(Body):
    """A message, a call that the model made, or the result of one."""

    neutral: ClassVar = {"status": ("completed", "in_progress", "incomplete")}

    type: Literal["message", "function_call", "function_call_output"] = "message"
    id: str | None = None
    """As an answer had it; nothing refers to it."""
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: list[InputPart] | None = None
    call_id: str | None = None
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def read_content(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "input_text", "text": value}]
        for index, part in enumerate(value if isinstance(value, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind not in ("input_text", "output_text"):
                raise ValueError(
                    f"{index}.type: this model reads text; it cannot be given a part of type {kind!r}"
                )
        return value

    @model_validator(mode="after")
    def check_fields(self) -> Self:
        needed = {
            "message": {"role", "content"},
            "function_call": {"call_id", "name", "arguments"},
            "function_call_output": {"call_id", "output"},
        }[self.type]
        for field in ("role", "content", "call_id", "name", "arguments", "output"):
            if (getattr(self, field) is not None) != (field in needed):
                word = "needs it" if field in needed else "has no such field"
                raise ValueError(f"{field}: an item of the type {self.type!r} {word}")
        return self


class FunctionTool(Body):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False

    def for_chat(self) -> ToolBody:
        """The same as a chat has it."""
        function = self.model_dump(exclude={"type"}, exclude_none=True)
        return ToolBody.model_validate({"type": "function", "function": function})


class FunctionChoice(Body):
    type: Literal["auto", "none", "required", "function"]
    name: FunctionName | None = None

    @model_validator(mode="before")
    @classmethod
    def accept_word(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def check_name(self) -> Self:
        if (self.name is not None) != (self.type == "function"):
            raise ValueError("name: it is needed by the type 'function', and by no other")
        return self

    def for_chat(self) -> ToolChoice:
        """The same as a chat has it."""
        named = NamedFunction(name=self.name) if self.name is not None else None
        return ToolChoice(type=self.type, function=named)


class TextFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool = False

    @model_validator(mode="after")
    def check_schema(self) -> Self:
        if (self.schema_ is not None) != (self.type == "json_schema"):
            raise ValueError("schema: it is needed by the type 'json_schema', and by no other")
        return self

    def for_chat(self) -> ResponseFormat:
        """The same as a chat has it."""
        if self.schema_ is None:
            return ResponseFormat(type=self.type)
        schema = JsonSchema.model_validate({"name": self.name or "answer", "schema": self.schema_})
        return ResponseFormat(type=self.type, json_schema=schema)


class TextOptions(Body):
    format: TextFormat | None = None


class ResponseBody(Body):
    neutral: ClassVar = {
        "store": (False,),
        "background": (False,),
        "truncation": ("disabled",),
        "service_tier": ("auto", "default"),
    }

    model: Annotated[str, Field(min_length=1)]
    input: list[InputItem] = Field(min_length=1)
    instructions: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: list[Literal["message.output_text.logprobs"]] = []
    text: TextOptions = TextOptions()
    tools: list[FunctionTool] = Field(default=[], max_length=MAX_TOOLS)
    tool_choice: FunctionChoice | None = None
    parallel_tool_calls: bool = True
    metadata: dict[str, Annotated[str, Field(max_length=512)]] = Field(default={}, max_length=16)
    """Comes back with the answer."""
    user: str | None = None
    """Written to the request log, nothing else."""
    safety_identifier: str | None = None
    """The protocol's newer name of `user`."""
    store: bool = False
    background: bool = False
    previous_response_id: str | None = None
    conversation: Any = None

    @field_validator("input", mode="before")
    @classmethod
    def accept_text(cls, value: Any) -> Any:
        return [{"role": "user", "content": value}] if isinstance(value, str) else value

    @model_validator(mode="after")
    def check_together(self) -> Self:
        for field in ("store", "background", "previous_response_id", "conversation"):
            if getattr(self, field):
                raise ValueError(f"{field}: {_NOT_STORED}")
        if self.top_logprobs and LOGPROBS not in self.include:
            raise ValueError(f'top_logprobs: it needs "include": ["{LOGPROBS}"]')
        choice = self.tool_choice.for_chat() if self.tool_choice is not None else None
        check_tools([tool.name for tool in self.tools], choice=choice)
        self.messages()
        return self

    def messages(self) -> list[ChatMessage]:
        """The conversation as a chat has it. Raises ValueError for a result that answers no call."""
        messages: list[dict[str, Any]] = []
        if self.instructions is not None:
            messages.append({"role": "system", "content": self.instructions})
        for item in self.input:
            if item.type == "message":
                content = "".join(part.text for part in item.content or ())
                messages.append({"role": item.role, "content": content})
            elif item.type == "function_call_output":
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
            else:
                call = {
                    "id": item.call_id,
                    "function": {"name": item.name, "arguments": item.arguments},
                }
                if messages and messages[-1]["role"] == "assistant":
                    messages[-1].setdefault("tool_calls", []).append(call)
                else:
                    messages.append({"role": "assistant", "tool_calls": [call]})
        read = [ChatMessage.model_validate(message) for message in messages]
        check_calls(read)
        return read

    def sampling(self) -> ResponseSampling:
        """What of it says how tokens are chosen."""
        told = (self.top_logprobs or 0) if LOGPROBS in self.include else None
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        return ResponseSampling.model_validate({"model": self.model, "told": told, **given})


class ResponseSampling(GenerationBody):
    """The settings of a response, where those of a chat are expected."""

    told: int | None = None

    @property
    def told_logprobs(self) -> int | None:
        return self.told

    @property
    def constrained_by(self) -> str:
        return "text"
