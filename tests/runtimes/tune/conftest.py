"""A model that is small enough to train in a test, with a real tokenizer and chat template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.contract import Task, TuningEnvironment

WORDS = ("red", "blue", "green", "seven", "north", "winter", "copper", "window")


@pytest.fixture(scope="session")
def tiny_folder(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two thin layers and random weights that speaks SmolLM2's tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=49152,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(smollm_folder / name, folder / name)
    return folder


def chat(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    """Sixteen short chats of different lengths."""
    file = tmp_path / "train.jsonl"
    lines = [
        chat(f"Say {word} {times} times", " ".join([word] * times)) for word in WORDS for times in (2, 5)
    ]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def make_environment(tiny_folder: Path, train_file: Path, tmp_path: Path) -> Callable[..., TuningEnvironment]:
    """A run of 16 steps on the tiny model, with an output folder called `name`."""

    def make(name: str, **changes: Any) -> TuningEnvironment:
        values: dict[str, Any] = {
            "task": Task.TEXT_GENERATION,
            "job": "ftj_test",
            "model_dir": str(tiny_folder),
            "train_file": str(train_file),
            "output_dir": str(tmp_path / name),
            "checkpoint_dir": str(tmp_path / name / "checkpoints"),
            "epochs": 4,
            "learning_rate": 1e-2,
            "lora_rank": 4,
            "batch_tokens": 200,
            "max_length": 128,
            "validation_share": 0.2,
            "device": "cpu",
        }
        return TuningEnvironment(**values | changes)

    return make
