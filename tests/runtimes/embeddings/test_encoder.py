"""The encoder on real weights: in process against a plain forward pass, and over HTTP with the official
SDK.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AutoModel, AutoTokenizer, BertConfig

from runtimes.contract import ServingEnvironment, Task
from runtimes.devices.picking import pick_device
from runtimes.embeddings.loading import load_embedding_model
from runtimes.embeddings.model import EmbeddingModel
from runtimes.errors import EngineFailure, SetupError
from runtimes.server.embedding_routes import shorten
from tests.runtimes.serving import RunningServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

TEXTS = [
    "A cat sits on the mat.",
    "ok",
    "The stock market fell sharply on Monday as investors worried about rising interest rates. " * 8,
    "Ein Kätzchen sitzt auf der Matte. 🐈",
    "How do I reset my password?",
] * 7
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 48}


def fail(error: BaseException) -> None:
    raise AssertionError("the encoder broke") from error


def load(folder: Path, **changes: Any) -> EmbeddingModel:
    torch.set_num_threads(2)
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION, model_dir=str(folder), model_name="demo", **changes
    )
    return load_embedding_model(environment, device=pick_device("cpu"), dtype="float32")


@pytest.fixture(scope="module")
def plain_vectors(minilm_folder: Path) -> torch.Tensor:
    """Each text alone through transformers: mean of the token vectors, length 1."""
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm_folder, local_files_only=True)
    model: Any = AutoModel.from_pretrained(minilm_folder, dtype=torch.float32, local_files_only=True).eval()
    vectors = []
    with torch.inference_mode():
        for text in TEXTS:
            inputs = tokenizer(text, return_tensors="pt", padding=False, truncation=False)
            vectors.append(model(**inputs).last_hidden_state[0].mean(dim=0))
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1)


async def test_texts_computed_together_equal_each_computed_alone(
    minilm_folder: Path, plain_vectors: torch.Tensor
) -> None:
    model = load(minilm_folder)
    model.start(on_failure=fail)
    try:
        inputs = await model.inputs.read(TEXTS)
        together, *parts = await asyncio.gather(
            model.engine.encode(inputs), *(model.engine.encode([tokens]) for tokens in inputs[:5])
        )
    finally:
        await asyncio.to_thread(model.stop)

    torch.testing.assert_close(torch.tensor(together), plain_vectors, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(np.concatenate(parts)), plain_vectors[:5], atol=1e-5, rtol=0)


async def test_padded_vectors_are_the_same(minilm_folder: Path, plain_vectors: torch.Tensor) -> None:
    model = load(minilm_folder, packing="off")
    assert model.facts.packing == {"attention": "padded", "reasons": ["RUNTIME_PACKING=off"]}
    model.start(on_failure=fail)
    try:
        vectors = await model.engine.encode(await model.inputs.read(TEXTS))
    finally:
        await asyncio.to_thread(model.stop)

    torch.testing.assert_close(torch.tensor(vectors), plain_vectors, atol=1e-5, rtol=0)


def test_where_packing_is_required_and_mixes_texts_it_does_not_start(
    minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mix(module: Any, query: Any, key: Any, value: Any, mask: Any, **others: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None

    for name in ("packed_by_segment", "packed_block_mask"):
        monkeypatch.setitem(AttentionInterface._global_mapping, name, mix)

    with pytest.raises(SetupError, match="RUNTIME_PACKING=required, but packed.*segments: differs by"):
        load(minilm_folder, packing="required")
    packing = load(minilm_folder, packing="auto").facts.packing
    assert packing is not None and packing["attention"] == "padded"
    assert [reason.partition(" by")[0] for reason in packing["reasons"]] == [
        "segments: differs",
        "block-mask: differs",
    ]


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({}, ()),
        ({"is_matryoshka": True}, range(1, 32)),
        ({"matryoshka_dimensions": [32, 16, 8]}, (8, 16)),
    ],
    ids=["not said", "any", "some"],
)
def test_a_folder_says_what_vectors_may_be_cut_to(
    minilm_folder: Path, tmp_path: Path, changes: dict[str, Any], lengths: Any
) -> None:
    shutil.copytree(
        minilm_folder, tmp_path, ignore=shutil.ignore_patterns("model.safetensors"), dirs_exist_ok=True
    )
    config = json.loads((minilm_folder / "config.json").read_bytes()) | SMALL
    AutoModel.from_config(BertConfig(**config)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | changes))

    assert load(tmp_path).shorter_dimensions == lengths


def test_a_vector_that_is_cut_has_length_one_again() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 1]], dtype=np.float32)

    assert shorten(vectors, dimensions=2).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_info_says_how_texts_are_packed(embedding_server: RunningServer) -> None:
    packing = embedding_server.http.get("/info").json()["packing"]

    assert packing["attention"] == "segments"
    assert packing["reasons"][0].startswith("segments: differs by ")


async def test_what_nobody_waits_for_is_not_computed(minilm_folder: Path) -> None:
    model = load(minilm_folder)
    inputs = await model.inputs.read(TEXTS)
    # Not started yet, so that all of it still waits when the caller leaves.
    left = asyncio.ensure_future(model.engine.encode(inputs))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    computed: list[int] = []
    model.engine._encoder._model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )

    model.start(on_failure=fail)
    try:
        await model.engine.encode(inputs[:1])
    finally:
        await asyncio.to_thread(model.stop)

    assert computed == [len(inputs[0])]


async def test_it_says_when_it_broke(minilm_folder: Path) -> None:
    model = load(minilm_folder)
    failures: list[BaseException] = []
    model.start(on_failure=failures.append)

    # A token the model does not know; the front refuses such a request before it gets here.
    with pytest.raises(EngineFailure, match="the encoder failed"):
        await model.engine.encode([[10**9]])
    with pytest.raises(EngineFailure, match="has stopped"):
        await model.engine.encode([[101, 102]])

    async with asyncio.timeout(10):  # who owns the engine is told after those who wait for answers
        while not failures:
            await asyncio.sleep(0.01)
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 257}, "RUNTIME_CONTEXT_LENGTH=257 is more than the model's 256"),
        ({"adapter_dir": "/adapter"}, "encoders are served without adapters"),
        ({"packing": "sometimes"}, "RUNTIME_PACKING='sometimes' is unknown; use auto, off or required"),
    ],
)
def test_it_refuses_what_it_cannot_do(minilm_folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        load(minilm_folder, **changes)


def test_the_sdk_gets_vectors_in_both_formats(
    embedding_server: RunningServer, plain_vectors: torch.Tensor
) -> None:
    create = embedding_server.openai.embeddings.create
    default = create(model="embed-demo", input=TEXTS[:5])  # the SDK asks for base64 and decodes it
    floats = create(model="embed-demo", input=TEXTS[0], encoding_format="float")
    coded: Any = create(model="embed-demo", input=TEXTS[0], encoding_format="base64").data[0].embedding

    assert [item.index for item in default.data] == [0, 1, 2, 3, 4]
    vectors = torch.tensor([item.embedding for item in default.data])
    torch.testing.assert_close(vectors, plain_vectors[:5], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(floats.data[0].embedding), plain_vectors[0], atol=1e-5, rtol=0)
    decoded = struct.unpack("<384f", base64.b64decode(coded))
    torch.testing.assert_close(torch.tensor(decoded), plain_vectors[0], atol=1e-5, rtol=0)


def test_tokens_give_the_same_vector_as_their_text(
    embedding_server: RunningServer, minilm_folder: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm_folder, local_files_only=True)
    tokens = tokenizer.encode(TEXTS[0], add_special_tokens=False)
    create = embedding_server.openai.embeddings.create

    text = create(model="embed-demo", input=TEXTS[0])
    one = create(model="embed-demo", input=tokens)
    two = create(model="embed-demo", input=[tokens, tokens])

    vectors = torch.tensor([one.data[0].embedding, *(item.embedding for item in two.data)])
    torch.testing.assert_close(vectors, torch.tensor([text.data[0].embedding] * 3), atol=1e-6, rtol=0)
    count = len(tokens) + 2  # [CLS] and [SEP] are computed too
    assert text.usage.to_dict() == one.usage.to_dict() == {"prompt_tokens": count, "total_tokens": count}
    assert two.usage.to_dict() == {"prompt_tokens": 2 * count, "total_tokens": 2 * count}
