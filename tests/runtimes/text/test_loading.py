"""What is done to weights between the folder and the engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from runtimes.contract import ServingEnvironment, Task
from runtimes.devices.device import Device
from runtimes.errors import SetupError
from runtimes.text.engine import Sampling
from runtimes.text.loading import apply_adapter, load_text_model, load_weights

pytestmark = [
    pytest.mark.weights,
    pytest.mark.timeout(300),
    # peft asks transformers by a name that has a newer one.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

CPU = Device(
    name="cpu", torch_name="cpu", description="this machine", memory_bytes=16 * 2**30, dtypes=("float32",)
)
PROMPT = torch.tensor([[1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47]])


def environment(folder: Path, **changes: Any) -> ServingEnvironment:
    return ServingEnvironment(
        task=Task.TEXT_GENERATION, model_dir=str(folder), model_name="demo", max_concurrency=2, **changes
    )


@pytest.fixture(scope="module")
def adapter(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A LoRA adapter with random values, and the logits of the model it is attached to."""
    folder = tmp_path_factory.mktemp("adapter")
    base = load_weights(smollm_folder, device=CPU, dtype="float32")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    tuned: Any = get_peft_model(base, config).eval()
    tuned.save_pretrained(folder)
    with torch.inference_mode():
        return folder, tuned(PROMPT).logits


def test_a_merged_adapter_answers_like_an_attached_one(
    smollm_folder: Path, adapter: tuple[Path, torch.Tensor]
) -> None:
    folder, expected = adapter
    base: Any = load_weights(smollm_folder, device=CPU, dtype="float32")
    with torch.inference_mode():
        untuned = base(PROMPT).logits
        merged: Any = apply_adapter(base, folder=folder)
        logits = merged(PROMPT).logits

    torch.testing.assert_close(logits, expected, atol=2e-3, rtol=0)
    assert (untuned - expected).abs().max() > 0.5
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_it_refuses_an_adapter_of_another_shape(
    smollm_folder: Path, adapter: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    base = load_weights(smollm_folder, device=CPU, dtype="float32")

    with pytest.raises(SetupError, match="does not fit the model"):
        apply_adapter(base, folder=folder)


def test_it_refuses_an_adapter_without_safetensors(smollm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "adapter_config.json").write_text("{}")
    base = load_weights(smollm_folder, device=CPU, dtype="float32")

    with pytest.raises(SetupError, match=r"adapter_model\.bin is a pickle"):
        apply_adapter(base, folder=tmp_path)


def make_smaller(folder: Path, small: Path) -> Path:
    """A model of few weights with the tokenizer, template and settings of another."""
    shutil.copytree(folder, small, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = AutoConfig.from_pretrained(folder, **sizes, intermediate_size=24, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(small)
    return small


def test_the_authors_settings_are_the_defaults(smollm_folder: Path, tmp_path: Path) -> None:
    folder = make_smaller(smollm_folder, tmp_path / "model")
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": [2, 0]}
    (folder / "generation_config.json").write_text(json.dumps(settings))

    model = load_text_model(environment(folder), device=CPU, dtype="float32")

    assert model.defaults == Sampling(temperature=0.6, top_p=0.9, top_k=20)
    assert model.end_tokens == frozenset({0, 2})


def test_a_model_without_settings_has_those_of_the_protocol(smollm_folder: Path) -> None:
    model = load_text_model(environment(smollm_folder), device=CPU, dtype="float32")

    assert (model.defaults, model.end_tokens, model.facts.context_length) == (
        Sampling(),
        frozenset({2}),
        8192,
    )


@pytest.mark.parametrize(
    ("changes", "memory", "message"),
    [
        ({"context_length": 10_000}, 16, "RUNTIME_CONTEXT_LENGTH=10000 is more than the model's 8192"),
        (
            {},
            1,
            r"needs 1\.7. GiB \(weights 0\.50 GiB, cache 0\.35 GiB, process 0\.88 GiB\) but this machine",
        ),
    ],
    ids=["context", "memory"],
)
def test_it_refuses_what_cannot_work(
    smollm_folder: Path, changes: dict[str, Any], memory: int, message: str
) -> None:
    device = replace(CPU, memory_bytes=memory * 2**30)

    with pytest.raises(SetupError, match=message):
        load_text_model(environment(smollm_folder, **changes), device=device, dtype="float32")


async def test_a_template_cannot_run_code(smollm_folder: Path, tmp_path: Path) -> None:
    folder = make_smaller(smollm_folder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    model = load_text_model(environment(folder), device=CPU, dtype="float32")

    with pytest.raises(SetupError, match="the chat template cannot render a greeting: .* is unsafe"):
        await model.warm_up()
