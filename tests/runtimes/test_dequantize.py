from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from runtimes.contract import ExitCode, ServingEnvironment, Task
from runtimes.dequantize import main
from runtimes.errors import SetupError
from runtimes.server.loading import load_model

HIDDEN, HEADS, INNER = 64, 4, 96
ALPHABET = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab", "<|end|>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A language model of one layer with random values, half of them quantized."""
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(ALPHABET))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(ALPHABET)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(len(ALPHABET) - 1)
    writer.add_eos_token_id(len(ALPHABET) - 1)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(ALPHABET), HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (HIDDEN, HIDDEN),
        "blk.0.attn_v": (HIDDEN, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
    }
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        if name.startswith("blk.0.ffn_") and len(shape) == 2:
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_file_always_gives_the_same_bytes(gguf_file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "other.gguf"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(gguf_file.read_bytes())

    assert main([str(gguf_file), str(tmp_path / "one")]) == ExitCode.DONE
    assert main([str(elsewhere), str(tmp_path / "deep" / "two")]) == ExitCode.DONE

    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "deep" / "two")
    assert all(str(tmp_path).encode() not in content for content in one.values())
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(one)


def test_values_tokenizer_and_template_come_along(gguf_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert main([str(gguf_file), str(folder)]) == ExitCode.DONE

    reader = gguf.GGUFReader(gguf_file)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    weights = load_file(folder / "model.safetensors")
    gate = stored["blk.0.ffn_gate.weight"]
    np.testing.assert_array_equal(
        weights["model.layers.0.mlp.gate_proj.weight"], gguf.dequantize(gate.data, gate.tensor_type)
    )
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    end = len(ALPHABET) - 1
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == end
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("abba", add_special_tokens=False)) == [
        "ab",
        "b",
        "a",
    ]
    assert tokenizer.chat_template == TEMPLATE


def test_it_never_overwrites(gguf_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    assert main([str(gguf_file), str(folder)]) == ExitCode.BAD_INPUT
    assert f"{folder} already exists" in capsys.readouterr().err
    assert contents(folder) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"", "is not a GGUF file"), (b"PK\x03\x04", "is not a GGUF file")],
)
def test_it_says_what_is_wrong_with_the_file(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)

    assert main([str(file), str(tmp_path / "folder")]) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_file_that_was_cut_leaves_nothing_behind(
    gguf_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: len(content) // 2])

    assert main([str(gguf_file), str(tmp_path / "out" / "folder")]) == ExitCode.BAD_INPUT
    assert "cannot be read as a language model" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_folder_with_nothing_but_gguf_is_served(gguf_file: Path) -> None:
    digests = {gguf_file.name: hashlib.sha256(gguf_file.read_bytes()).hexdigest()}
    environment = ServingEnvironment(
        task=Task.TEXT_GENERATION,
        model_dir=str(gguf_file.parent),
        model_name="tiny",
        digests=digests,
        device="cpu",
        max_concurrency=1,
    )
    model = load_model(environment)
    failures: list[BaseException] = []
    model.start(on_failure=failures.append)
    try:
        await model.warm_up()
    finally:
        model.stop()

    assert (model.facts.context_length, failures) == (128, [])
    with pytest.raises(SetupError, match=r"tiny\.gguf is not the file that was approved"):
        load_model(replace(environment, digests={gguf_file.name: "0" * 64}))
    with pytest.raises(SetupError, match="only text-generation is served from one"):
        load_model(replace(environment, task=Task.FEATURE_EXTRACTION))
