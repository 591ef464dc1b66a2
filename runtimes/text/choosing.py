"""Which engine computes a text model: what can is decided from its configuration, the fastest is measured.

Only engines of equal precision compete, so their greedy answers are the same. An engine that computes in
another one is used where the recipe asks for that precision, never because it is fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from runtimes.devices.device import Device
from runtimes.errors import SetupError
from runtimes.text.continuous import ContinuousBatchingEngine
from runtimes.text.engine import TextEngine
from runtimes.text.native.cache import SlotCache
from runtimes.text.native.decoder import Decoder, Part, why_not
from runtimes.text.native.engine import NativeEngine

logger = logging.getLogger(__name__)

TRANSFORMERS, NATIVE = "transformers", "native"
TRIAL_SEQUENCES = 4
TRIAL_PROMPT = 16
"""Tokens in the cache of each before the steps that are measured."""
TRIAL_STEPS = 5
"""The fastest of these counts: what else runs on the machine only ever slows a step down."""


@dataclass(frozen=True, kw_only=True)
class EngineRoom:
    """What every engine is given."""

    end_tokens: Sequence[int]
    max_concurrency: int
    context_length: int
    cache_tokens: int


def possible_engines(wanted: str, *, config: Mapping[str, Any], device: Device, dtype: str) -> Sequence[str]:
    """Names of the engines to choose from, for RUNTIME_ENGINE=`wanted`. Raises SetupError when none can."""
    reasons = {
        TRANSFORMERS: "it does not compute in int8" if dtype == "int8" else None,
        NATIVE: _why_not_native(config=config, device=device, dtype=dtype),
    }
    if wanted != "auto" and wanted not in reasons:
        raise SetupError(f"RUNTIME_ENGINE={wanted!r} is unknown; use auto, {', '.join(reasons)}")
    asked = [name for name in reasons if wanted in ("auto", name)]
    possible = [name for name in asked if reasons[name] is None]
    if not possible:
        why = "; ".join(f"{name}: {reasons[name]}" for name in asked)
        raise SetupError(f"RUNTIME_ENGINE={wanted!r} cannot compute this model: {why}")
    return possible


def _why_not_native(*, config: Mapping[str, Any], device: Device, dtype: str) -> str | None:
    if device.name != "cpu":
        return f"it computes on a CPU, not on {device.name}"
    if dtype not in ("float32", "int8"):
        return f"it computes in float32 or int8, not in {dtype}"
    return why_not(config)


def make_engine(
    candidates: Sequence[str],
    *,
    model: PreTrainedModel,
    load: Callable[[], PreTrainedModel],
    dtype: str,
    room: EngineRoom,
) -> tuple[TextEngine, Mapping[str, float]]:
    """The fastest of the candidates, and tokens a second of each if there was a choice.

    `model` is used up; `load` brings another one in the rare case that it is needed again.
    """
    if NATIVE not in candidates:
        return _transformers(model, room=room), {}
    choose = TRANSFORMERS in candidates
    measured = {}
    if choose:
        measured[TRANSFORMERS] = _rate_of_transformers(model)
    decoder = Decoder(model, int8=dtype == "int8", context_length=room.context_length)
    if choose:
        measured[NATIVE] = _rate_of_native(decoder)
        logger.info("tokens a second: %s", ", ".join(f"{name} {rate:.1f}" for name, rate in measured.items()))
        if measured[TRANSFORMERS] > measured[NATIVE]:
            del decoder
            return _transformers(load(), room=room), measured
    engine = NativeEngine(
        decoder,
        name=f"{NATIVE}-{dtype}",
        end_tokens=room.end_tokens,
        max_concurrency=room.max_concurrency,
        context_length=room.context_length,
        cache_tokens=room.cache_tokens,
    )
    return engine, measured


def _transformers(model: PreTrainedModel, *, room: EngineRoom) -> ContinuousBatchingEngine:
    return ContinuousBatchingEngine(
        model,
        end_tokens=room.end_tokens,
        max_concurrency=room.max_concurrency,
        cache_tokens=room.cache_tokens,
    )


@torch.inference_mode()
def _rate_of_transformers(model: Any) -> float:
    """Of its plain forward pass, without what its paged cache costs on top."""
    cache = DynamicCache(config=model.config)
    model(torch.ones(TRIAL_SEQUENCES, TRIAL_PROMPT, dtype=torch.long), past_key_values=cache)
    token = torch.ones(TRIAL_SEQUENCES, 1, dtype=torch.long)
    return _rate(lambda: model(token, past_key_values=cache))


def _rate_of_native(decoder: Decoder) -> float:
    cache = SlotCache(
        layers=decoder.layers,
        slots=TRIAL_SEQUENCES,
        heads=decoder.key_heads,
        head_size=decoder.head_size,
        context_length=TRIAL_PROMPT + TRIAL_STEPS,
    )
    wanted = range(TRIAL_SEQUENCES)
    decoder.step([Part(slot, [1] * TRIAL_PROMPT, 0) for slot in wanted], cache=cache, wanted=wanted)
    parts = [Part(slot, [1], TRIAL_PROMPT) for slot in wanted]
    return _rate(lambda: decoder.step(parts, cache=cache, wanted=wanted))


def _rate(step: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIAL_STEPS):
        started = perf_counter()
        step()
        seconds.append(perf_counter() - started)
    return TRIAL_SEQUENCES / min(seconds)
