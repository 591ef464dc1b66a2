"""What is known of a version from its metadata alone: size, precision, context, and the shape of its layers.

Pure. Memory estimates are made from these facts, so a figure that the files do not give is left out, never
guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marketplace.catalog.tensors import main_precision

# The same fact under the names that architectures give it, most common first. Sources: the configuration
# classes of transformers (Llama, GPT-2, BERT, Whisper, T5, Falcon).
CONTEXT = ("max_position_embeddings", "n_positions", "max_target_positions", "seq_length", "max_seq_len")
LAYERS = ("num_hidden_layers", "n_layer", "decoder_layers", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
HEADS = ("num_attention_heads", "n_head", "decoder_attention_heads", "num_heads", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads")
HEAD_SIZE = ("head_dim", "d_kv")
VOCABULARY = ("vocab_size",)
WINDOW = ("sliding_window", "attention_chunk_size")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Columns of a version."""

    parameters: int | None = None
    precision: str = ""
    context_length: int | None = None
    """Tokens."""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """{"name", "type", "layers", "hidden_size", "attention_heads", "kv_heads", "head_size", "vocabulary"},
    as far as known. Where they apply also: "cached_layers" (that keep keys and values, if not all do),
    "window" (tokens) and "window_layers" (sliding windows), "latent_size" (multi-head latent attention)."""


def read_facts(*, config: Mapping[str, Any], parameters: Mapping[str, int]) -> Facts:
    """Facts from config.json and the parameter counts by safetensors type ({"BF16": 134515008})."""
    text = config.get("text_config")
    layers = {**config, **text} if isinstance(text, Mapping) else config
    heads = _first(layers, HEADS)
    hidden = _first(layers, HIDDEN)
    head_size = _first(layers, HEAD_SIZE) or (hidden // heads if hidden and heads else None)
    architecture = {
        "name": next(iter(config.get("architectures") or []), None),
        "type": config.get("model_type"),
        "layers": _first(layers, LAYERS),
        "hidden_size": hidden,
        "attention_heads": heads,
        "kv_heads": _first(layers, KV_HEADS) or heads,
        "head_size": head_size,
        "vocabulary": _first(layers, VOCABULARY),
        **_attention(layers),
    }
    return Facts(
        parameters=sum(parameters.values()) or None,
        precision=main_precision(parameters),
        context_length=_first(layers, CONTEXT),
        architecture={name: value for name, value in architecture.items() if value},
    )


def _attention(config: Mapping[str, Any]) -> dict[str, int]:
    """How layers keep less than keys and values of every token, as the configuration tells.

    Sources: the configuration classes of transformers (Mistral, Qwen2, Gemma 2 and 3, Llama 4, Qwen3-Next,
    DeepSeek-V2 and V3), whose files leave out what their class fills in.
    """
    found: dict[str, int] = {}
    count = _first(config, LAYERS) or 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == count:
        cached = sum(str(kind).endswith("attention") and kind != "linear_attention" for kind in kinds)
        if cached < count:
            found["cached_layers"] = cached
    latent = _first(config, ("kv_lora_rank",))
    if latent:
        found["latent_size"] = latent + (_first(config, ("qk_rope_head_dim",)) or 0)
    window = _first(config, WINDOW)
    windowed = _windowed_layers(config, count) if window else 0
    if window and windowed:
        found |= {"window": window, "window_layers": windowed}
    return found


def _windowed_layers(config: Mapping[str, Any], count: int) -> int:
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    if "use_sliding_window" in config:
        full = config.get("max_window_layers")
        return count - min(count, full if isinstance(full, int) else 0) if config["use_sliding_window"] else 0
    # Every n-th layer sees everything.
    pattern = _first(config, ("sliding_window_pattern",)) or (
        2 if config.get("model_type") == "gemma2" else 0
    )
    return count - count // pattern if pattern else count


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
