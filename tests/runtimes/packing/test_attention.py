"""Packed equals unpacked: every back end that runs here, on every kind of architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    MPNetConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from runtimes.packing.attention import (
    BACKENDS,
    attend_by_segment,
    attend_with_block_mask,
    usable_backends,
    varlen_options,
)
from runtimes.packing.check import choose_packing, compute_apart, relative_error
from runtimes.packing.errors import PackingUnsupported
from runtimes.packing.flat import FlatModel

VOCABULARY = 99
SIZE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
DECODER = SIZE | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**SIZE, intermediate_size=48, max_position_embeddings=64),
    "roberta": lambda: RobertaConfig(
        **SIZE, intermediate_size=48, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1
    ),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_heads=4, n_layers=2, hidden_dim=48, max_position_embeddings=64
    ),
    "llama": lambda: LlamaConfig(**DECODER),
    "qwen2": lambda: Qwen2Config(**DECODER),
    "qwen3": lambda: Qwen3Config(**DECODER, head_dim=8),
}
CPU = torch.device("cpu")
# Token 1 pads in RoBERTa, where it has a position of its own; a tokenizer never gives it inside a text.
sequences = st.lists(
    st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=40), min_size=1, max_size=7
)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModel.from_config(CONFIGS[request.param](), attn_implementation="sdpa").eval()
    # Weights as large as those of trained models, so that an attention that sees too much shows.
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return made


@pytest.mark.parametrize("backend", usable_backends(CPU), ids=lambda backend: backend.name)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=sequences)
def test_packed_equals_unpacked(model: PreTrainedModel, backend: Any, batch: list[list[int]]) -> None:
    model.set_attn_implementation("sdpa")
    alone = compute_apart(model, batch)

    assert relative_error(FlatModel(model, backend=backend)(batch), alone) < 1e-5


@pytest.mark.weights
@pytest.mark.parametrize("backend", usable_backends(CPU), ids=lambda backend: backend.name)
@pytest.mark.parametrize("folder", ["minilm_folder", "smollm_folder"])
def test_packed_equals_unpacked_on_real_weights(
    folder: str, backend: Any, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(folder)
    real: Any = AutoModel.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()
    batch = [[101, *range(2000, 2000 + length), 102] for length in (7, 30, 7, 1, 90)]
    alone = compute_apart(real, batch)

    assert relative_error(FlatModel(real, backend=backend)(batch), alone) < 1e-5


def test_the_fastest_back_end_that_runs_is_chosen() -> None:
    made = AutoModel.from_config(CONFIGS["bert"]()).eval()

    choice = choose_packing(made, [[5, 6, 7], [8, 9]], backends=usable_backends(CPU))

    assert choice.flat is not None and choice.flat.backend.name == "segments"
    assert [reason.partition(":")[0] for reason in choice.reasons] == ["segments"]


def test_a_model_that_mixes_its_sequences_is_not_packed() -> None:
    made: Any = AutoModel.from_config(CONFIGS["bert"]()).eval()
    apart = made.embeddings.forward

    def leak(*arguments: Any, **options: Any) -> torch.Tensor:
        embedded = apart(*arguments, **options)
        return embedded + embedded.mean(dim=1, keepdim=True)

    made.embeddings.forward = leak

    choice = choose_packing(made, [[5, 6, 7], [8, 9]], backends=usable_backends(CPU))

    assert choice.flat is None
    assert [reason.partition(" by")[0] for reason in choice.reasons] == [
        "segments: differs",
        "block-mask: differs",
    ]
    assert made.config._attn_implementation == "sdpa"


def test_a_model_with_an_attention_of_its_own_is_not_packed() -> None:
    made = AutoModel.from_config(
        MPNetConfig(**SIZE, intermediate_size=48, max_position_embeddings=66), attn_implementation="eager"
    ).eval()

    assert choose_packing(made, [[5, 6, 7], [8, 9]], backends=usable_backends(CPU)).flat is None


@pytest.mark.parametrize("attend", [attend_by_segment, attend_with_block_mask])
def test_it_computes_nothing_when_it_is_not_told_the_segments(attend: Any) -> None:
    states = torch.ones(1, 2, 6, 4)

    with pytest.raises(PackingUnsupported, match="drops the arguments that keep sequences apart"):
        attend(torch.nn.Identity(), states, states, states, None)


@pytest.mark.parametrize("name", ["sliding_window", "softcap"])
def test_it_computes_nothing_when_it_would_leave_something_out(name: str) -> None:
    states = torch.ones(1, 2, 6, 4)

    with pytest.raises(PackingUnsupported, match=f"Identity asks for {name}"):
        attend_by_segment(
            torch.nn.Identity(), states, states, states, None, segment_runs=[(0, 1, 6)], **{name: 4}
        )


@pytest.mark.parametrize(
    ("torch_version", "known", "options"),
    [
        ("2.10", {"is_causal"}, {"is_causal": True}),
        ("2.13", {"window_size", "scale", "enable_gqa"}, {"window_size": (-1, 0), "scale": 0.5}),
    ],
)
def test_causal_attention_is_asked_for_as_this_torch_names_it(
    torch_version: str, known: set[str], options: dict[str, Any]
) -> None:
    assert varlen_options(known, causal=True, scale=options.get("scale")) == options, torch_version


def test_what_a_torch_cannot_be_asked_for_is_not_computed() -> None:
    with pytest.raises(PackingUnsupported, match="takes no scale"):
        varlen_options({"is_causal"}, causal=False, scale=0.5)
    with pytest.raises(PackingUnsupported, match="neither window_size nor is_causal"):
        varlen_options({"scale"}, causal=True, scale=0.5)


def test_back_ends_without_a_kernel_here_say_so() -> None:
    reasons = {backend.name: backend.probe(CPU) for backend in BACKENDS}

    assert reasons == {
        "flash": "flash attention has no kernel for cpu",
        "varlen": "varlen_attn has no kernel for cpu",
        "segments": None,
        "block-mask": None,
    }
