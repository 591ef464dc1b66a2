"""Meters of what an engine computes at once, for /metrics.

They belong to the process, as an engine does: it says `observe_batch(...)` after each step and needs to know
nothing of the front. Nothing here imports torch.
"""

from __future__ import annotations

from prometheus_client import Histogram
from prometheus_client.registry import Collector

_POWERS = tuple(2**power for power in range(17))

_sequences = Histogram(
    "runtime_batch_sequences",
    "Sequences, texts, clips or images computed together in one step",
    buckets=_POWERS[:11],
    registry=None,
)
_tokens = Histogram(
    "runtime_batch_tokens", "Tokens computed together in one step", buckets=_POWERS, registry=None
)
COLLECTORS: tuple[Collector, ...] = (_sequences, _tokens)
"""What /metrics shows of it."""


def observe_batch(*, sequences: int, tokens: int | None = None) -> None:
    """One step of an engine has computed so much; None where the kind of model has no tokens. Any thread."""
    _sequences.observe(sequences)
    if tokens is not None:
        _tokens.observe(tokens)
