"""From a verified folder to an encoder ready to start. The slow imports are here, and only here."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.embeddings.engine import BATCH_TOKENS, EncoderEngine
from runtimes.embeddings.inputs import InputReader
from runtimes.embeddings.model import EmbeddingModel
from runtimes.embeddings.pooling import read_pooling
from runtimes.errors import SetupError
from runtimes.served import ModelFacts
from runtimes.weights import BYTES_PER_VALUE, check_fit, read_config, read_weights

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
    predicted = check_fit(
        needed={
            "weights": weights.bytes_in(dtype),
            "activations": BATCH_TOKENS * hidden * LIVE_VALUES * BYTES_PER_VALUE[dtype],
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
    return EmbeddingModel(
        facts=ModelFacts(
            task=environment.task,
            engine=EncoderEngine.name,
            device=device.description,
            dtype=dtype,
            parameters=weights.parameters,
            context_length=context_length,
            predicted_bytes=predicted,
        ),
        inputs=InputReader(tokenizer),
        engine=EncoderEngine(
            model.to(device.torch_name).eval(), pooling=pooling, pad_token=tokenizer.pad_token_id or 0
        ),
        dimensions=hidden,
    )
