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
MAX_LOGPROBS = 5
"""Likely tokens of plain completions, as in the OpenAI protocol."""
MAX_INPUTS = 2048
"""Inputs in one embeddings request, as in the OpenAI protocol."""

Tokens = list[int]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
"""As a key of a JSON object."""


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
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] = {}
    top_k: Annotated[int, Field(ge=0)] | None = None
    """With `min_p` and `repetition_penalty` not OpenAI's, but what open models are used with."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    user: str | None = None
    """Written to the request log, nothing else."""
    safety_identifier: str | None = None
    """The protocol's newer name of `user`."""

    @field_validator("stop", mode="before")
    @classmethod
    def accept_one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError('stream_options: it needs "stream": true')
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def told_logprobs(self) -> int | None:
        """How many likely tokens to tell with each; None = nothing."""
        return None

    @property
    def constrained_by(self) -> str:
        """The field that asks for answers of a certain form."""
        return "response_format"


class CompletionBody(GenerationBody):
    neutral: ClassVar = {"suffix": ("",)}

    prompt: list[str] | list[Tokens]
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    best_of: int | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def accept_one_prompt(cls, value: Any) -> Any:
        return as_inputs(value, name="prompt", most=MAX_PROMPTS)

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.best_of not in (None, self.n):
            raise ValueError("best_of: answers are not ranked; it can only be what n is")
        if self.echo and self.logprobs is not None:
            raise ValueError("logprobs: of a prompt there are none; leave out echo or logprobs")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens

    @property
    def told_logprobs(self) -> int | None:
        return self.logprobs


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
