"""The forward pass of a Llama-like decoder over the tokens of several sequences at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from runtimes.text.native.cache import SlotCache
from runtimes.text.native.linears import Linear, make_linear


@dataclass(frozen=True)
class Part:
    """The next tokens of one sequence."""

    slot: int
    tokens: Sequence[int]
    position: int
    """Of the first of these tokens: how many the cache has."""


@dataclass(frozen=True)
class _Layer:
    attention_norm: torch.Tensor
    attention_in: Linear
    """Queries, keys and values in one."""
    attention_out: Linear
    mlp_norm: torch.Tensor
    mlp_in: Linear
    """Gate and up in one."""
    mlp_out: Linear


def why_not(config: Mapping[str, Any]) -> str | None:
    """Why this decoder cannot compute the model of a config.json; None when it can."""
    if config.get("model_type") != "llama":
        return f"model_type is {config.get('model_type')!r}, not 'llama'"
    if config.get("hidden_act", "silu") != "silu":
        return f"hidden_act is {config['hidden_act']!r}, not 'silu'"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "its linear layers have biases"
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "llama3", "yarn"):
        return f"rope_type is {kind!r}, whose frequencies change with the length"
    return None


class Decoder:
    """Weights of the model, packed for speed. Not safe to share between threads."""

    def __init__(self, model: Any, *, int8: bool, context_length: int) -> None:
        """Copies the weights out of `model`, a LlamaForCausalLM in float32, emptying it layer by layer."""
        config = model.config
        self.layers = config.num_hidden_layers
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.vocabulary = config.vocab_size
        self._epsilon = config.rms_norm_eps
        self._embedding = model.model.embed_tokens.weight.detach()
        self._norm = model.model.norm.weight.detach()
        self._head = make_linear(model.lm_head.weight, None, int8=int8)
        self._turns = _turns(model.model.rotary_emb, length=context_length)
        self._stack: list[_Layer] = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            query, key = (
                _interleave(part.weight.detach(), head_size=self.head_size)
                for part in (attention.q_proj, attention.k_proj)
            )
            self._stack.append(
                _Layer(
                    layer.input_layernorm.weight.detach(),
                    make_linear(torch.cat([query, key, attention.v_proj.weight]), None, int8=int8),
                    make_linear(attention.o_proj.weight, None, int8=int8),
                    layer.post_attention_layernorm.weight.detach(),
                    make_linear(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), None, int8=int8),
                    make_linear(mlp.down_proj.weight, None, int8=int8),
                )
            )
            layer.to("meta")

    @torch.inference_mode()
    def step(self, parts: Sequence[Part], *, cache: SlotCache, wanted: Sequence[int]) -> torch.Tensor:
        """Writes the tokens' keys and values into the cache; logits [wanted, vocabulary] of the last token
        of the parts named in `wanted`, in that order.

        Parts of one token must come first.
        """
        tokens = torch.tensor([token for part in parts for token in part.tokens])
        positions = torch.tensor(
            [part.position + index for part in parts for index in range(len(part.tokens))]
        )
        turns = self._turns[positions].unsqueeze(1)  # [tokens, 1, head size / 2], complex
        attend = _Attention(parts, cache=cache, heads=self.heads, key_heads=self.key_heads)
        x = functional.embedding(tokens, self._embedding)
        width = (x.shape[1],)
        split = (self.heads + self.key_heads) * self.head_size
        for number, layer in enumerate(self._stack):
            mixed = layer.attention_in(functional.rms_norm(x, width, layer.attention_norm, self._epsilon))
            turned = torch.view_as_complex(mixed[:, :split].reshape(len(tokens), -1, self.head_size // 2, 2))
            turned = torch.view_as_real(turned * turns).flatten(2)  # [tokens, heads, head size]
            queries, keys = turned[:, : self.heads], turned[:, self.heads :]
            values = mixed[:, split:].view(len(tokens), self.key_heads, self.head_size)
            x = x + layer.attention_out(attend(number, queries, keys, values))
            gate, up = layer.mlp_in(functional.rms_norm(x, width, layer.mlp_norm, self._epsilon)).chunk(
                2, dim=1
            )
            x = x + layer.mlp_out(functional.silu(gate) * up)
        ends = torch.tensor([len(part.tokens) for part in parts]).cumsum(0) - 1
        x = x[ends[list(wanted)]]
        return self._head(functional.rms_norm(x, width, self._norm, self._epsilon))


class _Attention:
    """Attention of one step: single tokens of all sequences in one call, longer parts one by one."""

    def __init__(self, parts: Sequence[Part], *, cache: SlotCache, heads: int, key_heads: int) -> None:
        self._cache = cache.values
        self._group = heads // key_heads
        self._key_heads = key_heads
        self._slots = torch.tensor([part.slot for part in parts for _ in part.tokens])
        self._positions = torch.tensor(
            [part.position + index for part in parts for index in range(len(part.tokens))]
        )
        self._single = sum(len(part.tokens) == 1 for part in parts)
        lengths = self._positions[: self._single] + 1
        self._longest = int(lengths.max()) if self._single else 0
        # [sequences, 1, 1, longest]: what a sequence has in the cache.
        self._mask = (torch.arange(self._longest) < lengths.unsqueeze(1))[:, None, None]
        self._order = self._slots[: self._single]
        # Without a gap in the slots no keys and values are copied to bring them together.
        first = int(self._order[0]) if self._single else 0
        self._in_place = self._order.tolist() == list(range(first, first + self._single))
        self._first = first
        self._long = []
        start = self._single
        for part in parts[self._single :]:
            size = len(part.tokens)
            mask = None
            if part.position:
                mask = torch.ones(size, part.position + size, dtype=torch.bool).tril(part.position)
            self._long.append((start, start + size, part.slot, part.position + size, mask))
            start += size

    def __call__(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:  # [tokens, heads, head size] each -> [tokens, heads * head size]
        stored_keys, stored_values = self._cache[layer]
        stored_keys[self._slots, :, self._positions] = keys
        stored_values[self._slots, :, self._positions] = values
        outputs = []
        if self._single:
            where = slice(self._first, self._first + self._single) if self._in_place else self._order
            # The queries that share a key head stand in the place of a sequence of queries.
            grouped = queries[: self._single].reshape(self._single, self._key_heads, self._group, -1)
            outputs.append(
                functional.scaled_dot_product_attention(
                    grouped,
                    stored_keys[where, :, : self._longest],
                    stored_values[where, :, : self._longest],
                    attn_mask=self._mask,
                ).flatten(1)
            )
        for start, end, slot, length, mask in self._long:
            outputs.append(
                functional.scaled_dot_product_attention(
                    queries[start:end].transpose(0, 1).unsqueeze(0),
                    stored_keys[slot : slot + 1, :, :length],
                    stored_values[slot : slot + 1, :, :length],
                    attn_mask=mask,
                    is_causal=mask is None,
                    enable_gqa=True,
                )[0]
                .transpose(0, 1)
                .flatten(1)
            )
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _interleave(weight: torch.Tensor, *, head_size: int) -> torch.Tensor:
    """Rows of queries or keys so that the two values that turn together are neighbors: a complex number.

    Attention is a sum over these values, in whatever order they are.
    """
    halves = weight.view(-1, 2, head_size // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _turns(rotary: Any, *, length: int) -> torch.Tensor:
    """[length, head size / 2], complex: by how much each pair of values is turned at a position."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32), rotary.inv_freq.float())
    return torch.polar(torch.full_like(angles, float(rotary.attention_scaling)), angles)
