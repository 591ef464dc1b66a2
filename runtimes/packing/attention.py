"""Attention over flat tokens that keeps sequences apart: the back ends, and which of them run here.

The sequences of a batch stand one after another in one row without padding: linear layers and norms see only
real tokens, and attention alone has to know where a sequence ends. It is told by keyword arguments, which
transformers passes through a model down to its attention function. The names are those of transformers' own
collator for flattened batches, so that its flash back ends understand them too:

- cu_seq_lens_q, cu_seq_lens_k: [sequences + 1] int32, where each sequence begins, and the end;
- max_length_q, max_length_k: tokens of the longest;
- segment_runs: [(start, sequences, length)] neighbors of equal length, for back ends on the processor.

Nothing is assumed of a model: one that ignores these arguments mixes its sequences without a sound, so
`runtimes.packing.check` compares before anything is served.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate, groupby
from typing import Any, TypeVar

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from runtimes.packing.errors import PackingUnsupported

T = TypeVar("T")
Run = tuple[int, int, int]
"""(first token, sequences, tokens of each)"""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way of computing attention over flat tokens."""

    name: str
    implementation: str
    """As transformers knows it."""
    probe: Callable[[torch.device], str | None]
    """Why it cannot run on a device; None when it can."""


def segment_arguments(lengths: Sequence[int], *, device: torch.device) -> dict[str, Any]:
    """What attention needs to know of sequences of these lengths; equal neighbors make it faster."""
    runs: list[Run] = []
    start = 0
    for length, group in groupby(lengths):
        count = len(list(group))
        runs.append((start, count, length))
        start += count * length
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "segment_runs": runs,
    }


def attend_by_segment(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    segment_runs: Sequence[Run] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """One scaled dot product for each run of sequences of equal length; the fastest on a processor.

    query [1, H, T, D], key and value [1, K, T, D] to [1, T, H, D].
    """
    runs, causal = _checked(module, segment_runs, mask=attention_mask, is_causal=is_causal, others=others)
    heads, tokens = query.shape[1], query.shape[2]
    result = torch.empty((1, tokens, heads, value.shape[-1]), dtype=query.dtype, device=query.device)
    for start, count, length in runs:
        end, apart = start + count * length, (count, length)
        output = functional.scaled_dot_product_attention(
            _split(query[0, :, start:end], apart),
            _split(key[0, :, start:end], apart),
            _split(value[0, :, start:end], apart),
            is_causal=causal,
            scale=scaling,
            enable_gqa=key.shape[1] != heads,
        )
        result[0, start:end].view(count, length, heads, -1).copy_(output.transpose(1, 2))
    return result, None


def _split(states: torch.Tensor, apart: tuple[int, int]) -> torch.Tensor:
    """[H, sequences * length, D] to [sequences, H, length, D], without a copy."""
    heads, _, width = states.shape
    return states.view(heads, *apart, width).transpose(0, 1)


def attend_with_block_mask(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """All pairs of tokens, those of different sequences masked: costs the square of the row, runs anywhere.

    query [1, H, T, D], key and value [1, K, T, D] to [1, T, H, D].
    """
    ends, causal = _checked(module, cu_seq_lens_q, mask=attention_mask, is_causal=is_causal, others=others)
    places = torch.arange(query.shape[2], device=query.device)
    segments = torch.bucketize(places, ends[1:], right=True)
    mask = segments[:, None] == segments[None, :]  # [T, T]
    if causal:
        mask &= places[:, None] >= places[None, :]
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )
    return output.transpose(1, 2), None


def attend_with_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """torch's own flash kernels for sequences of different lengths; on CUDA, in half precision.

    query [1, H, T, D], key and value [1, K, T, D] to [1, T, H, D].
    """
    from torch.nn.attention import varlen

    varlen_attn: Any = varlen.varlen_attn  # its signature is not the same in any two versions of torch
    ends, causal = _checked(module, cu_seq_lens_q, mask=attention_mask, is_causal=is_causal, others=others)
    options = varlen_options(set(inspect.signature(varlen_attn).parameters), causal=causal, scale=scaling)
    heads = query.shape[1]
    if key.shape[1] != heads:
        key, value = (item.repeat_interleave(heads // item.shape[1], dim=1) for item in (key, value))
    flat = [item[0].transpose(0, 1).contiguous() for item in (query, key, value)]  # [T, H, D]
    output: torch.Tensor = varlen_attn(*flat, ends, ends, max_length_q, max_length_q, **options)
    return output[None], None


def varlen_options(known: set[str], *, causal: bool, scale: float | None) -> dict[str, Any]:
    """The options of `varlen_attn` under the names this torch gives them: 2.10 has is_causal, later ones a
    window. Raises PackingUnsupported when what is asked for cannot be said.
    """
    options: dict[str, Any] = {}
    if scale is not None:
        if "scale" not in known:
            raise PackingUnsupported("varlen_attn of this torch takes no scale")
        options["scale"] = scale
    if causal and "window_size" in known:
        options["window_size"] = (-1, 0)
    elif causal and "is_causal" in known:
        options["is_causal"] = True
    elif causal:
        raise PackingUnsupported("varlen_attn of this torch has neither window_size nor is_causal")
    return options


def _checked(
    module: torch.nn.Module,
    told: T | None,
    *,
    mask: torch.Tensor | None,
    is_causal: bool | None,
    others: Mapping[str, Any],
) -> tuple[T, bool]:
    """What keeps sequences apart, as it was told, and whether a token sees only those before it. Raises
    PackingUnsupported for a model that drops it, or asks for what these functions would leave out.
    """
    if told is None:
        raise PackingUnsupported(f"{type(module).__name__} drops the arguments that keep sequences apart")
    if mask is not None:
        raise PackingUnsupported(f"{type(module).__name__} brings an attention mask of its own")
    if module.training and others.get("dropout"):
        raise PackingUnsupported("attention dropout is not computed over flat tokens")
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise PackingUnsupported(f"{type(module).__name__} asks for {name}")
    return told, bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal


def _no_mask(*arguments: Any, **options: Any) -> None:
    """The mask of the flat back ends: they keep sequences apart themselves."""
    return None


def _always(device: torch.device) -> str | None:
    return None


def _probe_varlen(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"varlen_attn has no kernel for {device.type}"
    if find_spec("torch.nn.attention.varlen") is None:
        return "this torch has no torch.nn.attention.varlen"
    return None


def _probe_flash(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"flash attention has no kernel for {device.type}"
    return None if find_spec("flash_attn") else "the package flash_attn is not installed"


FUNCTIONS: Mapping[str, Callable[..., tuple[torch.Tensor, None]]] = {
    "packed_by_segment": attend_by_segment,
    "packed_block_mask": attend_with_block_mask,
    "packed_varlen": attend_with_varlen,
}
BACKENDS: tuple[Backend, ...] = (
    Backend(name="flash", implementation="flash_attention_2", probe=_probe_flash),
    Backend(name="varlen", implementation="packed_varlen", probe=_probe_varlen),
    Backend(name="segments", implementation="packed_by_segment", probe=_always),
    Backend(name="block-mask", implementation="packed_block_mask", probe=_always),
)
"""From the fastest to the one that asks for least."""

for _name, _function in FUNCTIONS.items():
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _no_mask)


def usable_backends(device: torch.device) -> list[Backend]:
    """Those that run on the device, the fastest first."""
    return [backend for backend in BACKENDS if backend.probe(device) is None]
