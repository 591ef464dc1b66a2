"""From a verified folder to a text model ready to start. The slow imports are here, and only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.errors import SetupError
from runtimes.served import ModelFacts
from runtimes.text.choosing import EngineRoom, make_engine, possible_engines
from runtimes.text.continuous import ContinuousBatchingEngine
from runtimes.text.engine import Sampling
from runtimes.text.grammar import GrammarCompiler
from runtimes.text.memory import PROCESS_BYTES, CacheShape, cache_tokens
from runtimes.text.model import TextModel
from runtimes.text.prompts import PromptReader
from runtimes.weights import BYTES_PER_VALUE, check_fit, read_config, read_weights


def load_text_model(environment: ServingEnvironment, *, device: Device, dtype: str) -> TextModel:
    """Loads model, tokenizer and adapter from folders whose digests were checked before.

    Raises SetupError.
    """
    folder = Path(environment.model_dir)
    config = read_config(folder)
    candidates = possible_engines(environment.engine, config=config, device=device, dtype=dtype)
    facts = _predict(environment, config=config, folder=folder, device=device, dtype=dtype)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def load() -> PreTrainedModel:
        model = load_weights(folder, device=device, dtype="float32" if dtype == "int8" else dtype)
        return (
            apply_adapter(model, folder=Path(environment.adapter_dir)) if environment.adapter_dir else model
        )

    model = load()
    recommended = _recommended(model, folder=folder)
    end_tokens = _end_tokens(recommended)
    room = EngineRoom(
        end_tokens=sorted(end_tokens),
        max_concurrency=environment.max_concurrency,
        context_length=facts.context_length,
        cache_tokens=cache_tokens(
            context_length=facts.context_length, max_concurrency=environment.max_concurrency
        ),
    )
    engine, measured = make_engine(candidates, model=model, load=load, dtype=dtype, room=room)
    facts = replace(facts, engine=engine.name, measured=measured)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SetupError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    return TextModel(
        facts=facts,
        prompts=PromptReader(tokenizer, vocabulary=model.config.vocab_size),
        grammars=GrammarCompiler(
            tokenizer, vocabulary=model.config.vocab_size, end_tokens=sorted(end_tokens)
        ),
        engine=engine,
        end_tokens=end_tokens,
        defaults=_default_sampling(recommended),
    )


def load_weights(folder: Path, *, device: Device, dtype: str) -> PreTrainedModel:
    """The causal language model in the folder, in eval mode, from safetensors alone. Raises SetupError."""
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"the weights in {folder} cannot be loaded: {error}") from error
    model.to(device.torch_name)
    loaded: PreTrainedModel = model.eval()
    return loaded


def apply_adapter(model: PreTrainedModel, *, folder: Path) -> PreTrainedModel:
    """The model with a LoRA adapter added into its weights, so that it answers at the speed of the base."""
    read_weights(folder)
    read_config(folder, "adapter_config.json")
    # Only a deployment of a tuned model pays for this import.
    from peft import PeftModel

    try:
        tuned = PeftModel.from_pretrained(model, folder, is_trainable=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise SetupError(f"the adapter in {folder} does not fit the model: {error}") from error
    merged: PreTrainedModel = tuned.merge_and_unload(safe_merge=True).eval()
    return merged


def _predict(
    environment: ServingEnvironment, *, config: Mapping[str, Any], folder: Path, device: Device, dtype: str
) -> ModelFacts:
    weights = read_weights(folder)
    supported = int(config.get("max_position_embeddings") or 0)
    context_length = environment.context_length or supported
    if context_length < 2:
        raise SetupError(
            f"{folder / 'config.json'} has no max_position_embeddings; set RUNTIME_CONTEXT_LENGTH"
        )
    if supported and context_length > supported:
        raise SetupError(f"RUNTIME_CONTEXT_LENGTH={context_length} is more than the model's {supported}")
    try:
        shape = CacheShape.from_config(config)
    except KeyError as error:
        raise SetupError(
            f"{folder / 'config.json'} has no {error}: not a language model of this runtime"
        ) from error
    cache = cache_tokens(context_length=context_length, max_concurrency=environment.max_concurrency)
    # Weights of 8 bits are made from those of 32, and the cache stays in 32.
    computed = "float32" if dtype == "int8" else dtype
    needed = {
        "weights": weights.bytes_in(computed) + (weights.parameters if dtype == "int8" else 0),
        "cache": cache * shape.bytes_per_token(bytes_per_value=BYTES_PER_VALUE[computed]),
        "process": PROCESS_BYTES,
    }
    return ModelFacts(
        task=environment.task,
        engine=ContinuousBatchingEngine.name,
        device=device.description,
        dtype=dtype,
        parameters=weights.parameters,
        context_length=context_length,
        predicted_bytes=check_fit(needed=needed, available=device.memory_bytes, device=device.description),
    )


def _recommended(model: PreTrainedModel, *, folder: Path) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        return model.generation_config or GenerationConfig.from_model_config(model.config)


def _end_tokens(config: GenerationConfig) -> frozenset[int]:
    tokens = config.eos_token_id
    return frozenset([tokens] if isinstance(tokens, int) else tokens or [])


def _default_sampling(config: GenerationConfig) -> Sampling:
    """The authors' settings; what they leave open is as the OpenAI protocol has it (temperature and top_p
    1).
    """
    return Sampling(
        temperature=1.0 if config.temperature is None else config.temperature,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k or 0,
        repetition_penalty=config.repetition_penalty or 1.0,
    )
