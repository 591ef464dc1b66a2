"""How much memory serving a model takes, from its published facts.

All sizes are bytes. The parts are kept apart, because a customer who is told "it does not fit" can act on
the largest one: another precision, a shorter context, fewer requests at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.catalog.precisions import BYTES_PER_VALUE

FRAMEWORK_BYTES = {"cpu": 450 * 2**20, "cuda": 1200 * 2**20, "rocm": 1400 * 2**20, "ipu": 1200 * 2**20}
"""Interpreter, libraries and device context before any weight is loaded. cpu: resident size of a serving
process measured after imports, torch 2.13 on x86-64; the others are priors until a start measures them."""

ERROR_BAND = 0.15
"""Share by which the expected size may be wrong in either direction, until measured starts narrow it."""

LOGIT_BYTES = 4
"""Logits are computed in float32 whatever the weights are."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the catalog knows of a version. Zero means unknown; an unknown part is left out and said so."""

    parameters: int
    layers: int = 0
    hidden_size: int = 0
    kv_heads: int = 0
    head_size: int = 0
    vocabulary: int = 0
    context_length: int = 0
    generates: bool = True
    """Whether it answers token by token, and so keeps keys and values."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """The parts of the expected size in bytes, and a band around their sum."""

    weights: int
    kv_cache: int
    activations: int
    framework: int
    unknown: tuple[str, ...] = ()
    """Parts that the catalog has no figures for."""

    @property
    def expected(self) -> int:
        return self.weights + self.kv_cache + self.activations + self.framework

    @property
    def low(self) -> int:
        return round(self.expected * (1 - ERROR_BAND))

    @property
    def high(self) -> int:
        return round(self.expected * (1 + ERROR_BAND))

    @property
    def largest_part(self) -> str:
        parts = {"weights": self.weights, "KV cache": self.kv_cache, "activations": self.activations}
        return max(parts, key=lambda name: parts[name])


def kv_bytes_per_token(facts: ModelFacts, *, precision: str) -> int:
    """Keys and values of one token over all layers: 2 · layers · kv_heads · head_size · bytes per value.

    https://kipp.ly/transformer-inference-arithmetic/#kv-cache, with kv_heads for grouped queries.
    """
    values = 2 * facts.layers * facts.kv_heads * facts.head_size
    return round(values * BYTES_PER_VALUE[precision])


def estimate_serving(
    facts: ModelFacts, *, precision: str, family: str, context_length: int, concurrency: int
) -> MemoryEstimate:
    """Memory to serve `concurrency` requests of `context_length` tokens each at once.

    Raises KeyError for a precision or accelerator family that has no figures.
    """
    bytes_per_value = BYTES_PER_VALUE[precision]
    tokens = context_length * concurrency
    unknown = []
    kv_cache = 0
    if facts.generates:
        kv_cache = kv_bytes_per_token(facts, precision=precision) * tokens
        if not kv_cache:
            unknown.append("KV cache")
    # One layer's intermediate states for the tokens of one forward pass (at most 2,048 are batched), plus
    # one row of logits per running request.
    batched = min(tokens, 2048)
    activations = round(8 * facts.hidden_size * batched * bytes_per_value)
    if facts.generates:
        activations += facts.vocabulary * concurrency * LOGIT_BYTES
    if not facts.hidden_size:
        unknown.append("activations")
    return MemoryEstimate(
        weights=round(facts.parameters * bytes_per_value),
        kv_cache=kv_cache,
        activations=activations,
        framework=FRAMEWORK_BYTES[family],
        unknown=tuple(unknown),
    )
