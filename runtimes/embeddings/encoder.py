"""From token ids to one vector for each sequence, without padding where the model allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from runtimes.embeddings.pooling import Pooling
from runtimes.packing.check import PackingChoice
from runtimes.packing.padded import plan_batches


class Encoder:
    """A bare transformers model and its pooling."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        pooling: Pooling,
        packing: PackingChoice,
        pad_token: int,
        batch_tokens: int,
    ) -> None:
        self._model: Any = model
        self._pooling = pooling
        self._flat = packing.flat
        self._pad_token = pad_token
        self.batch_tokens = batch_tokens
        """Most tokens of one computation."""

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Float32 vectors [B, H] on the processor."""
        # Neighbors of equal length share one call of attention.
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]), reverse=True)
        ordered = [sequences[index] for index in order]
        vectors = self._compute_flat(ordered) if self._flat is not None else self._compute_padded(ordered)
        result = torch.empty_like(vectors)
        result[order] = vectors
        return result

    def _compute_flat(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        assert self._flat is not None
        return self._pooling(self._flat(sequences), list(map(len, sequences))).cpu()

    def _compute_padded(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = list(map(len, sequences))
        device = self._model.device
        parts = []
        # The longest come first, so that batches are neighbors and stay in order.
        for batch in plan_batches(lengths, max_tokens=self.batch_tokens):
            longest = lengths[batch[0]]
            rows = [[*sequences[index], *[self._pad_token] * (longest - lengths[index])] for index in batch]
            sizes = [lengths[index] for index in batch]
            mask = torch.arange(longest) < torch.tensor(sizes).unsqueeze(1)  # [B, S]
            mask = mask.to(device)
            hidden = self._model(
                input_ids=torch.tensor(rows, device=device), attention_mask=mask.long()
            ).last_hidden_state  # [B, S, H]
            parts.append(self._pooling(hidden[mask], sizes).cpu())
        return torch.cat(parts)
