"""A tiny model, whole in every file: what a chat model of a few hundred parameters looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8}


def safetensors_of(tensors: dict[str, tuple[str, list[int]]], *, fill: bytes = b"\x01") -> bytes:
    """A safetensors file with the given types and shapes; every byte of data is `fill`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + fill * end


def tiny_model(**config: Any) -> dict[str, bytes]:
    """Files of a Llama with 2 layers and 10,256 parameters, in bfloat16. `config` overrides config.json."""
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 640,
        "max_position_embeddings": 128,
        **config,
    }
    return {
        "config.json": json.dumps(settings).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": json.dumps(
            {"chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"}
        ).encode(),
        "model.safetensors": safetensors_of(
            {
                "model.embed_tokens.weight": ("BF16", [640, 16]),
                "model.norm.weight": ("BF16", [16]),
                "model.position_ids": ("I64", [1, 128]),
            }
        ),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files below a folder and returns it."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
