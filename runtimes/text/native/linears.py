"""Linear layers of two precisions, packed once for the CPU's matrix instructions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Linear = Callable[[torch.Tensor], torch.Tensor]
"""[tokens, in] -> [tokens, out], float32."""


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, *, int8: bool) -> Linear:
    """`weight` is [out, in], float32; it is copied, so the caller may let go of it."""
    return Int8Linear(weight, bias) if int8 else FloatLinear(weight, bias)


class FloatLinear:
    """The weights as they are."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight.detach().clone()
        self._bias = None if bias is None else bias.detach().clone()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


class Int8Linear:
    """Weights of 8 bits with a scale for each output, inputs of 8 bits with a scale for each token.

    The library has one scale for all inputs of a call, so that a token with a large value would coarsen its
    neighbors, and an answer would depend on what it is computed together with. Each token is therefore
    brought to the range -1 to 1 before, and a last row that spans exactly this range pins the library's
    scale. The sums are of integers, so the result for a token is the same in every batch.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        weight = weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        quantized = torch._make_per_channel_quantized_tensor(
            (weight / scales.unsqueeze(1)).round().to(torch.int8),
            scales.double(),
            torch.zeros(len(scales), dtype=torch.long),
            0,
        )
        self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._bias = None if bias is None else bias.detach().clone()
        self._width = weight.shape[1]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.shape[0]
        largest = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).clamp_min_(1e-30)
        rows = x.new_empty(tokens + 1, self._width)
        torch.div(x, largest, out=rows[:tokens])
        rows[tokens] = 0.0
        rows[tokens, 0] = 1.0
        rows[tokens, 1] = -1.0
        y: torch.Tensor = torch.ops.quantized.linear_dynamic(rows, self._packed, False)[:tokens]
        y.mul_(largest)
        return y if self._bias is None else y.add_(self._bias)
