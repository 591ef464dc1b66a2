"""From a verified folder to an encoder ready to start. The slow imports are here, and only here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.embeddings.encoder import Encoder
from runtimes.embeddings.engine import EncoderEngine
from runtimes.embeddings.inputs import InputReader
from runtimes.embeddings.model import EmbeddingModel
from runtimes.embeddings.pooling import read_pooling
from runtimes.errors import SetupError
from runtimes.packing.attention import usable_backends
from runtimes.packing.check import PackingChoice, choose_packing
from runtimes.served import ModelFacts
from runtimes.weights import BYTES_PER_VALUE, check_fit, read_config, read_weights

logger = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 2048}
"""Most tokens of one computation by device. On a processor twice as many were measured no faster, and who
comes next waits longer."""
OTHER_BATCH_TOKENS = 16384
"""On any other device; text-embeddings-inference's default."""
CHECK_TEXTS = (
    "Each of these texts must have the vector that it has alone.",
    "Yes.",
    "Die Stadt liegt an zwei Flüssen, und über beide führen alte Brücken aus Sandstein. " * 3,
    "How long does a package take to arrive?",
    "No.",
)
"""What packing is tried on at start: of different lengths and of equal ones."""
PROCESS_BYTES = 700 * 2**20
"""The interpreter with torch and transformers imported."""
LIVE_VALUES = 24
"""Hidden-size values alive per token at the widest point of a layer: the feed-forward block and attention."""


def load_embedding_model(environment: ServingEnvironment, *, device: Device, dtype: str) -> EmbeddingModel:
    """Loads encoder, tokenizer and pooling from a folder whose digests were checked before.

    Raises SetupError.
    """
    folder = Path(environment.model_dir)
    if environment.adapter_dir:
        raise SetupError("RUNTIME_ADAPTER_DIR is set, but encoders are served without adapters")
    config = read_config(folder)
    weights = read_weights(folder)
    pooling = read_pooling(folder)
    hidden = int(config.get("hidden_size") or 0)
    supported = min(filter(None, (pooling.max_tokens, config.get("max_position_embeddings"))), default=0)
    context_length = environment.context_length or supported
    if hidden < 1 or context_length < 1:
        raise SetupError(
            f"{folder / 'config.json'} has no hidden_size or no max_position_embeddings: not an encoder"
        )
    if supported and context_length > supported:
        raise SetupError(f"RUNTIME_CONTEXT_LENGTH={context_length} is more than the model's {supported}")
    batch_tokens = BATCH_TOKENS.get(device.name, OTHER_BATCH_TOKENS)
    predicted = check_fit(
        needed={
            "weights": weights.bytes_in(dtype),
            "activations": max(batch_tokens, context_length) * hidden * LIVE_VALUES * BYTES_PER_VALUE[dtype],
            "process": PROCESS_BYTES,
        },
        available=device.memory_bytes,
        device=device.description,
    )
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = AutoModel.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"the model in {folder} cannot be loaded: {error}") from error
    model = model.to(device.torch_name).eval()
    inputs = InputReader(tokenizer)
    packing = _choose_packing(model, inputs.read_now(CHECK_TEXTS), wanted=environment.packing)
    return EmbeddingModel(
        facts=ModelFacts(
            task=environment.task,
            engine=EncoderEngine.name,
            device=device.description,
            dtype=dtype,
            parameters=weights.parameters,
            context_length=context_length,
            predicted_bytes=predicted,
            packing={
                "attention": packing.flat.backend.name if packing.flat is not None else "padded",
                "reasons": list(packing.reasons),
            },
        ),
        inputs=inputs,
        engine=EncoderEngine(
            Encoder(
                model,
                pooling=pooling,
                packing=packing,
                pad_token=tokenizer.pad_token_id or 0,
                batch_tokens=batch_tokens,
            )
        ),
        dimensions=hidden,
        shorter_dimensions=_read_shorter_dimensions(config, hidden=hidden),
    )


def _choose_packing(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], *, wanted: str
) -> PackingChoice:
    """Raises SetupError when packing is required and the model does not pass the check."""
    if wanted not in ("auto", "off", "required"):
        raise SetupError(f"RUNTIME_PACKING={wanted!r} is unknown; use auto, off or required")
    if wanted == "off":
        return PackingChoice(flat=None, reasons=("RUNTIME_PACKING=off",))
    choice = choose_packing(model, sequences, backends=usable_backends(model.device))
    if choice.flat is None and wanted == "required":
        raise SetupError(
            "RUNTIME_PACKING=required, but packed sequences are not computed as they are apart: "
            + "; ".join(choice.reasons)
        )
    logger.info("packing: %s", "; ".join(choice.reasons))
    return choice


def _read_shorter_dimensions(config: Mapping[str, Any], *, hidden: int) -> range | tuple[int, ...]:
    """Lengths that vectors may be cut to, as config.json says in vLLM's words: Matryoshka training puts what
    matters most first, and any other model's vectors lose their meaning when they are cut.
    """
    lengths = config.get("matryoshka_dimensions")
    if isinstance(lengths, list):
        return tuple(sorted(int(length) for length in lengths if 0 < int(length) < hidden))
    return range(1, hidden) if config.get("is_matryoshka") is True else ()
