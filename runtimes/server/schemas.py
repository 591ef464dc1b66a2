"""Request bodies of the OpenAI protocol, as far as they are honored.

Everything else is refused by name: a field that is silently ignored is a lie. The one exception is a field
whose value asks for exactly what happens anyway (`"tools": []`, `"logprobs": false`), because SDKs and
proxies send such values without being asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_CHOICES = 8
"""Largest `n`."""
MAX_STOPS = 4
MAX_PROMPTS = 32
"""Prompts in one completions request."""
MAX_INPUTS = 2048
"""Inputs in one embeddings request, as in the OpenAI protocol."""

Tokens = list[int]


class Body(BaseModel):
    """A JSON object without unknown fields and without conversions: "0.5" is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Fields that are not honored -> the values that ask for nothing else than what happens."""

    @model_validator(mode="before")
    @classmethod
    def drop_neutral(cls, values: Any) -> Any:
        """Leaves out neutral fields, and null for any field: it means "as if it were not there"."""
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if value is not None
            and not any(value is item or value == item for item in cls.neutral.get(name, ()))
        }


class StreamOptions(Body):
    neutral: ClassVar = {"include_obfuscation": (False,)}

    include_usage: bool = False


class GenerationBody(Body):
    """What chat and plain completions share."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=MAX_STOPS)
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    """Written to the request log, nothing else."""

    @field_validator("stop", mode="before")
    @classmethod
    def accept_one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError('stream_options needs "stream": true')
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(Body):
    type: Literal["text"]
    text: str


class ChatMessage(Body):
    # An answer's message, sent back as it came, carries these.
    neutral: ClassVar = {"tool_calls": ([],), "annotations": ([],)}

    role: Literal["system", "developer", "user", "assistant"]
    content: list[TextPart]

    @field_validator("content", mode="before")
    @classmethod
    def accept_plain_text(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    def for_template(self) -> dict[str, str]:
        """As chat templates know it; `developer` is the protocol's newer name of `system`."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "".join(part.text for part in self.content)}


class ChatBody(GenerationBody):
    neutral: ClassVar = {
        "tools": ([],),
        "functions": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "logit_bias": ({},),
        "store": (False,),
        "metadata": ({},),
        "service_tier": ("auto", "default"),
    }

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def check_one_limit(self) -> Self:
        if (
            None not in (self.max_tokens, self.max_completion_tokens)
            and self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError("max_tokens and max_completion_tokens mean the same; give one of them")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionBody(GenerationBody):
    neutral: ClassVar = {
        "echo": (False,),
        "best_of": (1,),
        "suffix": ("",),
        "logit_bias": ({},),
    }

    prompt: list[str] | list[Tokens]

    @field_validator("prompt", mode="before")
    @classmethod
    def accept_one_prompt(cls, value: Any) -> Any:
        return as_inputs(value, name="prompt", most=MAX_PROMPTS)

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens


class EmbeddingBody(Body):
    model: Annotated[str, Field(min_length=1)]
    input: list[str] | list[Tokens]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    """Written to the request log, nothing else."""

    @field_validator("input", mode="before")
    @classmethod
    def accept_one_input(cls, value: Any) -> Any:
        return as_inputs(value, name="input", most=MAX_INPUTS)


def as_inputs(value: Any, *, name: str, most: int) -> list[str] | list[Tokens]:
    """A string, a list of strings, a list of tokens or a list of those: as a list of one kind, none of
    them empty.
    """
    inputs: list[Any] = [value] if isinstance(value, str) or _are_tokens(value) else value
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= most:
        raise ValueError(f"{name} must be a string, a list of token ids, or a list of 1 to {most} of either")
    for index, item in enumerate(inputs):
        if not (isinstance(item, str) or _are_tokens(item)) or isinstance(item, str) != isinstance(
            inputs[0], str
        ):
            raise ValueError(
                f"{name}.{index} must be a non-empty string or list of token ids, all of one kind"
            )
        if not item:
            raise ValueError(f"{name}.{index} must not be empty")
    return inputs


def _are_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value)
    )


class FormBody(Body):
    """The text fields of a form, where every value is a string: "0.5" is a number here."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False, frozen=True)

    model: Annotated[str, Field(min_length=1)]


class TranslationBody(FormBody):
    """Fields of /v1/audio/translations, and what transcriptions share with it. The file comes beside it."""

    neutral: ClassVar = {"stream": ("false", "False", "")}

    prompt: Annotated[str, Field(max_length=4096)] = ""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0


class TranscriptionBody(TranslationBody):
    """Fields of /v1/audio/transcriptions."""

    neutral: ClassVar = {"chunking_strategy": ("auto",)}

    language: str | None = None
    timestamp_granularities: list[Literal["word", "segment"]] = Field(default_factory=list)
    stream: bool = False

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise ValueError("timestamp_granularities needs response_format=verbose_json")
        if self.stream and self.response_format not in ("json", "text"):
            raise ValueError("stream=true needs response_format=json or text")
        return self
