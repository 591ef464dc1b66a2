"""How much memory serving a text model takes, from its configuration alone. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

USUAL_TOKENS = 1024
"""Prompt plus answer that one request is expected to take; the cache has room for this many of each
running one.
"""
PROCESS_BYTES = 900 * 2**20
"""The interpreter with torch and transformers imported: 620 MiB seen on CPU, plus room for activations."""


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """What one token takes in the key/value cache."""

    layers: int
    heads: int
    """Key/value heads: fewer than attention heads in models with grouped queries."""
    head_size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Reads the sizes from a model's config.json, under the names transformers gives them."""
        attention_heads = int(config["num_attention_heads"])
        return cls(
            layers=int(config["num_hidden_layers"]),
            heads=int(config.get("num_key_value_heads") or attention_heads),
            head_size=int(config.get("head_dim") or int(config["hidden_size"]) // attention_heads),
        )

    def bytes_per_token(self, *, bytes_per_value: int) -> int:
        """Keys and values of all layers."""
        return 2 * self.layers * self.heads * self.head_size * bytes_per_value


def cache_tokens(*, context_length: int, max_concurrency: int) -> int:
    """Tokens the cache must hold: one whole context, or the usual length of all running requests if that
    is more.
    """
    return max(context_length, max_concurrency * min(USUAL_TOKENS, context_length))
