"""How much memory serving a model takes, from its published facts.

All sizes are bytes. The parts are kept apart, because a customer who is told "it does not fit" can act on
the largest one: another precision, a shorter context, fewer requests at once.

A model that is spread over several devices has to fit on each of them, not only on their sum: weights and
keys and values are divided, but what a device needs to run at all is needed on every one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from marketplace.catalog.precisions import BYTES_PER_VALUE

FRAMEWORK_BYTES = {"cpu": 450 * 2**20, "cuda": 1200 * 2**20, "rocm": 1400 * 2**20, "ipu": 1200 * 2**20}
"""Interpreter, libraries and device context before any weight is loaded. cpu: resident size of a serving
process measured after imports, torch 2.13 on x86-64; the others are priors until a start measures them."""

GENERATION_BYTES = {"cpu": 170 * 2**20}
"""What the libraries that answer token by token add on top, by family; cpu: measured likewise."""

LOGIT_BYTES = 4
"""Logits are computed in float32 whatever the weights are."""

BATCHED_TOKENS = {True: 512, False: 4096}
"""Tokens computed in one pass, by whether the model generates: longer prompts are taken in parts."""

HEARD_FRAMES = 12_000
"""Frames of one pass of a model that hears: eight windows of 30 s, 50 frames a second after its convolutions.
Their keys and values are kept while the text is written."""

LIVE_VALUES = {True: 24, False: 16}
"""Values of hidden size alive at once per token: the residual stream, queries, keys, values, and the inner
width of the feed-forward block (about four times the hidden size, twice where it is gated)."""

STEP = 256
"""Context lengths are offered in whole steps of so many tokens."""


@dataclass(frozen=True, kw_only=True)
class ErrorBand:
    """By how much an estimate may be wrong, as shares of it, and why this much."""

    below: float
    above: float
    source: str


MEASURED = ErrorBand(
    below=0.2,
    above=0.15,
    source="measured peaks on CPU lie within it (text 135M, embeddings 22M, speech 73M parameters)",
)
PRIOR = ErrorBand(
    below=0.2,
    above=0.2,
    source="by formula: no start on this kind of device has been measured yet",
)
INCOMPLETE = ErrorBand(
    below=0.2,
    above=0.4,
    source="the model's files do not tell everything, so part of it is left out and the band is wide",
)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the catalog knows of a version. Zero means unknown; an unknown part is left out and said so."""

    parameters: int
    layers: int = 0
    hidden_size: int = 0
    attention_heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    vocabulary: int = 0
    context_length: int = 0
    window: int = 0
    """Tokens that layers with a sliding window look back; 0 = every layer sees everything."""
    window_layers: int = 0
    """How many of the layers have that window."""
    latent_size: int = 0
    """Values kept per token and layer in place of keys and values (multi-head latent attention)."""
    generates: bool = True
    """Whether it answers token by token, and so keeps keys and values."""
    hears: bool = False
    """Whether it hears audio: its passes are windows of sound, not contexts of text."""


@dataclass(frozen=True, kw_only=True)
class ServingShape:
    """A model as one recipe runs it on one flavor: everything that memory depends on but the load."""

    facts: ModelFacts
    precision: str
    """Of weights and computation. Keys and values are kept in 16 bits where weights are smaller."""
    family: str
    """Of the accelerator: cpu, cuda, rocm or ipu."""
    devices: int = 1
    """That the model is spread over, already as many as its heads can be divided by: see `spread`."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """The parts of the expected size in bytes, over all devices, and a band around their sum."""

    weights: int
    kv_cache: int
    activations: int
    framework: int
    band: ErrorBand = PRIOR
    unknown: tuple[str, ...] = ()
    """Parts that the catalog has no figures for."""
    devices: int = 1
    kv_devices: int = 1
    """Over how many of them keys and values are divided; the others hold copies."""

    @property
    def expected(self) -> int:
        return self.weights + self.kv_cache + self.activations + self.framework

    @property
    def low(self) -> int:
        return round(self.expected * (1 - self.band.below))

    @property
    def high(self) -> int:
        return round(self.expected * (1 + self.band.above))

    @cached_property
    def high_per_device(self) -> int:
        """What the fullest device may need: a share of weights and cache, and all that every device has."""
        share = self.weights / self.devices + self.kv_cache / self.devices
        own = (self.activations + self.framework) / self.devices
        return round((share + own) * (1 + self.band.above))

    @property
    def largest_part(self) -> str:
        parts = {"weights": self.weights, "KV cache": self.kv_cache, "activations": self.activations}
        return max(parts, key=lambda name: parts[name])


def spread(facts: ModelFacts, *, devices: int) -> int:
    """Over how many of `devices` the model can be divided: its attention heads are dealt out evenly.

    https://arxiv.org/abs/1909.08053, section 3. Unknown heads are taken to allow it.
    """
    if not facts.attention_heads:
        return devices
    return max(count for count in range(1, devices + 1) if facts.attention_heads % count == 0)


def kv_bytes_per_token(facts: ModelFacts, *, precision: str) -> int:
    """Keys and values of one token over all layers that see everything before it.

    2 · layers · kv_heads · head_size · bytes per value, https://kipp.ly/transformer-inference-arithmetic/#kv-cache,
    with kv_heads for grouped queries; with latent attention the latent of each layer takes their place
    (https://arxiv.org/abs/2405.04434, section 2.1).
    """
    return _layer_bytes(facts, precision=precision) * facts.layers


def kv_bytes(facts: ModelFacts, *, precision: str, context_length: int, concurrency: int) -> int:
    """Keys and values of `concurrency` whole contexts. Layers with a window keep no more than it."""
    windowed = min(facts.window_layers, facts.layers) if facts.window else 0
    tokens = (facts.layers - windowed) * context_length + windowed * min(context_length, facts.window)
    return _layer_bytes(facts, precision=precision) * tokens * concurrency


def _layer_bytes(facts: ModelFacts, *, precision: str) -> int:
    values = facts.latent_size or 2 * facts.kv_heads * facts.head_size
    return round(values * max(BYTES_PER_VALUE[precision], 2.0))


@lru_cache(maxsize=4096)
def estimate_serving(shape: ServingShape, *, context_length: int, concurrency: int) -> MemoryEstimate:
    """Memory to serve `concurrency` requests of `context_length` tokens each at once.

    Raises KeyError for a precision or accelerator family that has no figures.
    """
    facts, devices = shape.facts, shape.devices
    bytes_per_value = BYTES_PER_VALUE[shape.precision]
    width = max(bytes_per_value, 2.0)  # quantized weights are computed with in 16 bits
    unknown = [] if facts.parameters else ["weights"]
    kv_cache, kv_devices = 0, 1
    if facts.generates:
        kv_cache = kv_bytes(
            facts, precision=shape.precision, context_length=context_length, concurrency=concurrency
        )
        if not kv_cache:
            unknown.append("KV cache")
        # A head's keys and values are on one device at least; a latent belongs to all heads alike.
        kv_devices = 1 if facts.latent_size else max(1, min(devices, facts.kv_heads or devices))
        kv_cache = kv_cache // kv_devices * devices
    converted = 0
    if facts.hears:
        # Weights of 8 bits meet values of 32, and on a CPU they are made from such at start.
        computed = "float32" if shape.precision == "int8" else shape.precision
        width = BYTES_PER_VALUE[computed]
        kv_cache = kv_bytes(facts, precision=computed, context_length=HEARD_FRAMES, concurrency=1)
        converted = facts.parameters * 4 if shape.family == "cpu" else 0
    batched = (
        HEARD_FRAMES if facts.hears else min(context_length * concurrency, BATCHED_TOKENS[facts.generates])
    )
    activations = round(LIVE_VALUES[facts.generates] * facts.hidden_size * batched * width)
    if facts.generates:
        activations += facts.vocabulary * concurrency * LOGIT_BYTES
    if not facts.hidden_size:
        unknown.append("activations")
    framework = FRAMEWORK_BYTES[shape.family]
    if facts.generates or facts.hears:
        framework += GENERATION_BYTES.get(shape.family, 0)
    return MemoryEstimate(
        weights=round(facts.parameters * bytes_per_value) + converted,
        kv_cache=kv_cache,
        activations=activations * devices,
        framework=framework * devices,
        band=INCOMPLETE if unknown else MEASURED if shape.family == "cpu" else PRIOR,
        unknown=tuple(unknown),
        devices=devices,
        kv_devices=kv_devices,
    )


def fits(estimate: MemoryEstimate, *, device_bytes: int, min_bytes: int = 0) -> bool:
    """Whether every device has room for the high end of the estimate.

    `min_bytes` is a recipe's own lower bound for all devices together.
    """
    return max(estimate.high_per_device, -(-min_bytes // estimate.devices)) <= device_bytes


def longest_context(shape: ServingShape, *, concurrency: int, device_bytes: int, below: int) -> int:
    """The most tokens under `below`, in whole steps, with which it fits; 0 when not even one step does."""
    return STEP * _most(
        lambda steps: fits(
            estimate_serving(shape, context_length=steps * STEP, concurrency=concurrency),
            device_bytes=device_bytes,
        ),
        most=(below - 1) // STEP,
    )


def most_concurrency(shape: ServingShape, *, context_length: int, device_bytes: int, below: int) -> int:
    """The most requests at once under `below` with which it fits; 0 when not even one does."""
    return _most(
        lambda count: fits(
            estimate_serving(shape, context_length=context_length, concurrency=count),
            device_bytes=device_bytes,
        ),
        most=below - 1,
    )


def _most(holds: Callable[[int], bool], *, most: int) -> int:
    """The largest number from 1 to `most` for which `holds`, which is true up to some number; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
