"""Linear layers of two precisions, packed once for the CPU's matrix instructions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Linear = Callable[[torch.Tensor], torch.Tensor]
"""[tokens, in] -> [tokens, out], float32."""


SMALLEST = 1e-30
"""What a scale is divided out of at least, so that rows of zeros stay zeros."""


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, *, int8: bool) -> Linear:
    """`weight` is [out, in], float32, and must not be changed later."""
    return Int8Linear(weight, bias) if int8 else FloatLinear(weight, bias)


class FloatLinear:
    """The weights as they are."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight.detach()
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


class Int8Linear:
    """Weights of 8 bits with a scale for each output, inputs of 8 bits with a scale for each token.

    With one scale for all tokens, as the library would choose it, a token with a large value would coarsen
    its neighbors, and an answer would depend on what it is computed together with. Here each token is brought
    to the whole numbers from -127 to 127 by itself. The sums are of whole numbers, so the result for a token
    is the same in every batch.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        weight = weight.detach().float()
        self._scales = weight.abs().amax(dim=1).clamp_min(SMALLEST) / 127
        self._zeros = torch.zeros(len(weight), dtype=torch.long)
        quantized = (weight / self._scales.unsqueeze(1)).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(quantized, None)
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        scales = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).clamp_min_(SMALLEST).div_(127)
        # The instructions want inputs without a sign: zero is 128. The half makes cutting off a rounding.
        quantized = (x / scales).add_(128.5).to(torch.uint8)
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            quantized, 1.0, 128, self._packed, self._scales, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        y.mul_(scales)
        return y if self._bias is None else y.add_(self._bias)
