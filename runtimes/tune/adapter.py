"""The LoRA adapter: attached to a frozen model, read out and written as safetensors and JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def attach_adapter(model: Any, *, rank: int, seed: int) -> Any:
    """The model with a new adapter on every linear layer but the output's; only the adapter can be trained.

    On all layers, and with alpha twice the rank, LoRA learns as well as full tuning does on small data:
    Dettmers et al. (2023), https://arxiv.org/abs/2305.14314, section 4. Without dropout, so that nothing in
    a run is random but the first weights and the order of the examples.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers for `is_gradient_checkpointing`, which is about to be renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return get_peft_model(model, config)


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The adapter's parameters by name, in a fixed order."""
    return {name: value for name, value in sorted(model.named_parameters()) if value.requires_grad}


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """The adapter's values under the names that peft reads."""
    values: dict[str, torch.Tensor] = get_peft_model_state_dict(model)
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}


def load_adapter_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Puts values read out before into the model. Raises ValueError when they are another adapter's."""
    if weights.keys() != get_peft_model_state_dict(model).keys():
        raise ValueError("these are the weights of another adapter")
    set_peft_model_state_dict(model, dict(weights))


def adapter_files(model: Any) -> dict[str, bytes]:
    """The files of the finished adapter by name. They carry no path of this machine, and no time."""
    config = model.peft_config["default"].to_dict() | {
        "base_model_name_or_path": None,
        "inference_mode": True,
        "auto_mapping": None,
    }
    text = json.dumps(config, indent=2, sort_keys=True, default=_plain)
    return {
        CONFIG_FILE: text.encode() + b"\n",
        WEIGHTS_FILE: save(adapter_weights(model), metadata={"format": "pt"}),
    }


def _plain(value: Any) -> Any:
    """peft keeps some lists as sets and some words as enums."""
    return sorted(value) if isinstance(value, set | frozenset) else str(getattr(value, "value", value))
