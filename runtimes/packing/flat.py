"""A model over flat tokens: several sequences in one row, each computed as if it were alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from runtimes.packing.attention import Backend, segment_arguments
from runtimes.packing.errors import PackingUnsupported


class FlatModel:
    """Computes the last hidden states of a bare transformers model, encoder or decoder."""

    def __init__(self, model: PreTrainedModel, *, backend: Backend) -> None:
        """Switches the model to the back end. Raises PackingUnsupported when it cannot be told positions."""
        self._model: Any = model
        parameters = inspect.signature(model.forward).parameters
        if "position_ids" not in parameters:
            raise PackingUnsupported(f"{type(model).__name__} takes no position_ids")
        # With a cache, transformers drops what keeps decoders' sequences apart, and says nothing.
        self._options: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}
        self._token_types = "token_type_ids" in parameters
        self._first_position = first_position(model)
        self.backend = backend
        try:
            model.set_attn_implementation(backend.implementation)
        except (ValueError, ImportError) as error:
            raise PackingUnsupported(f"{type(model).__name__} has no {backend.name}: {error}") from error

    @torch.inference_mode()
    def __call__(
        self, sequences: Sequence[Sequence[int]], *, token_types: Sequence[Sequence[int]] | None = None
    ) -> torch.Tensor:
        """Token ids of sequences, and for models with two kinds of segments those of each token, to the
        hidden states of all tokens, one sequence after the other: [T, H].
        """
        device = self._model.device
        lengths = [len(sequence) for sequence in sequences]
        ids = torch.tensor([[token for sequence in sequences for token in sequence]], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]) + self._first_position
        options = dict(self._options)
        if self._token_types:
            kinds = [kind for item in token_types for kind in item] if token_types else [0] * ids.shape[1]
            options["token_type_ids"] = torch.tensor([kinds], device=device)
        output = self._model(
            input_ids=ids,
            position_ids=positions.to(device)[None],
            **segment_arguments(lengths, device=device),
            **options,
        )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden


def first_position(model: PreTrainedModel) -> int:
    """The position id of a first token. Models after RoBERTa count from behind their padding id."""
    embeddings = getattr(model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
