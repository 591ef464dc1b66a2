from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runtimes.errors import SetupError
from runtimes.weights import (
    WeightFacts,
    check_fit,
    only_gguf,
    read_config,
    read_weights,
    refuse_code,
    verify_digests,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 10 values in two files."""
    save_file({"a": np.zeros((2, 3), dtype=np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"b": np.zeros(4, dtype=np.float16)}, tmp_path / "model-2.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3}))
    return tmp_path


def digests_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_it_reads_sizes_from_the_headers(folder: Path) -> None:
    facts = read_weights(folder)

    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert facts == WeightFacts(
        files=("model-1.safetensors", "model-2.safetensors"), parameters=10, stored_bytes=stored
    )
    assert (facts.bytes_in("float32"), facts.bytes_in("bfloat16")) == (40, 20)


def test_it_accepts_the_files_that_were_approved(folder: Path) -> None:
    verify_digests(folder, digests_of(folder))
    verify_digests(folder, {})


def test_it_names_the_file_that_changed(folder: Path) -> None:
    digests = digests_of(folder)
    content = bytearray((folder / "model-2.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model-2.safetensors").write_bytes(content)

    with pytest.raises(SetupError, match=r"model-2\.safetensors is not the file that was approved"):
        verify_digests(folder, digests)


@pytest.mark.parametrize(
    ("digests", "message"),
    [
        ({"model-1.safetensors": "0" * 64}, "model-2.safetensors is not in the manifest"),
        ({"../secret": "0" * 64}, "lies outside the folder"),
        ({"/etc/passwd": "0" * 64}, "lies outside the folder"),
    ],
    ids=["a file too many", "a path upwards", "an absolute path"],
)
def test_it_refuses_a_manifest_that_does_not_fit(folder: Path, digests: dict[str, str], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        verify_digests(folder, digests)


def test_it_names_a_file_that_is_missing(folder: Path) -> None:
    with pytest.raises(SetupError, match=r"tokenizer\.json is in the manifest of digests but cannot be read"):
        verify_digests(folder, digests_of(folder) | {"tokenizer.json": "0" * 64})


def safetensors(header: str | bytes, *, content: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    """A file as its format has it: the length of the header, the header, the values."""
    encoded = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + content


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x08",
        b"\xff" * 64,
        safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}')[:20],
        safetensors("{}", length=2**63),
        safetensors("{}", length=100),
        safetensors('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
        safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,NaN]}}'),
        safetensors('{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}'),
        safetensors('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}'),
        safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}'),
        safetensors('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
        safetensors(
            '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            '"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
        ),
        safetensors('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}'),
        safetensors('{"a":{"dtype":"PY","shape":[2],"data_offsets":[0,8]}}'),
        safetensors(b"\xff\xfe{}"),
    ],
    ids=[
        "empty", "one byte", "no header", "a cut header", "a header of exabytes", "a header past the end",
        "a size that is no number", "an offset that is no number", "a size below zero",
        "a size unlike its bytes",
        "offsets backwards", "offsets past the end", "overlapping values", "a size that overflows",
        "an unknown kind of value", "a header that is no text",
    ],
)  # fmt: skip
def test_it_names_a_file_that_is_no_safetensors(folder: Path, damage: bytes) -> None:
    (folder / "model-2.safetensors").write_bytes(damage)

    with pytest.raises(SetupError, match=r"model-2\.safetensors is not a whole safetensors file"):
        read_weights(folder)


@pytest.mark.parametrize(
    "pickled",
    [*(pickle.dumps([0], protocol=number) for number in (2, 3, 4, 5)), b"PK\x03\x04 as torch saves"],
)
def test_it_names_a_pickle_that_was_renamed(folder: Path, pickled: bytes) -> None:
    (folder / "model-2.safetensors").write_bytes(pickled)

    with pytest.raises(SetupError, match=r"model-2\.safetensors is a pickle under another name"):
        read_weights(folder)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_as_long_as_a_pickle_begins_is_read(folder: Path, length: int) -> None:
    header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    (folder / "model-2.safetensors").write_bytes(safetensors(header))

    assert read_weights(folder).parameters == 8


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "model-1.safetensors", "b": "model-3.safetensors"}, "model-3.safetensors, which is missing"),
        ({"a": "../model-1.safetensors"}, "lies outside its folder"),
        ({"a": "/etc/passwd"}, "lies outside its folder"),
        ({"a": "pytorch_model.bin"}, "only safetensors weights are served"),
        ({"c": "model-1.safetensors"}, "says that model-1.safetensors has 'c', which it has not"),
        ({"a": 5}, "only safetensors weights are served"),
        ([], "is no index of shards"),
    ],
    ids=["a missing shard", "a path upwards", "an absolute path", "a pickle", "no such tensor", "a number",
        "a list"],
)  # fmt: skip
def test_it_refuses_an_index_that_does_not_fit(folder: Path, weight_map: object, message: str) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    read_weights(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(SetupError, match=message):
        read_weights(folder)


def test_it_follows_no_link_out_of_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "alias.json").symlink_to("config.json")
    read_weights(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model-2.safetensors"
    (folder / "model-2.safetensors").rename(elsewhere)
    (folder / "model-2.safetensors").symlink_to(elsewhere)

    with pytest.raises(
        SetupError, match=r"model-2\.safetensors is a link that leads out of the model folder"
    ):
        read_weights(folder)


def test_it_takes_one_gguf_file_where_there_is_nothing_else(folder: Path) -> None:
    (folder / "q4.gguf").write_bytes(b"GGUF")
    assert only_gguf(folder) is None, "safetensors come first"

    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    assert only_gguf(folder) == folder / "q4.gguf"
    (folder / "q8.gguf").write_bytes(b"GGUF")
    with pytest.raises(SetupError, match=r"several GGUF files \(q4\.gguf, q8\.gguf\)"):
        only_gguf(folder)


def test_it_names_a_file_that_was_cut(folder: Path) -> None:
    whole = (folder / "model-1.safetensors").read_bytes()
    (folder / "model-1.safetensors").write_bytes(whole[:-1])

    with pytest.raises(SetupError, match=r"model-1\.safetensors is not a whole safetensors file"):
        read_weights(folder)


def test_it_never_takes_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(SetupError, match=r"pytorch_model\.bin is a pickle"):
        read_weights(tmp_path)


def test_it_refuses_a_folder_that_brings_code(folder: Path) -> None:
    refuse_code(folder)
    (folder / "modeling_custom.py").write_text("print('hello')")

    with pytest.raises(SetupError, match=r"modeling_custom\.py is program code"):
        refuse_code(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"auto_map": {"AutoModel": "x.Y"}}', "asks to run code"),
        ("{", "is not JSON"),
        ("[]", "should hold a JSON object"),
        (None, "cannot be read"),
        ('{"quantization_config": {"quant_method": "gptq"}}', "quantized by gptq, which no engine of this"),
        ('{"quantization_config": {"quant_method": "awq"}}', r"such as vLLM for gptq and awq"),
        ('{"quantization_config": "int4"}', "quantized by int4"),
    ],
)
def test_it_refuses_a_configuration_it_cannot_use(folder: Path, content: str | None, message: str) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)

    with pytest.raises(SetupError, match=message):
        read_config(folder)


def test_it_shows_the_numbers_when_a_model_does_not_fit() -> None:
    needed = {"weights": 3 * 2**30, "cache": 2**29}

    assert check_fit(needed=needed, available=4 * 2**30, device="the GPU") == 3 * 2**30 + 2**29
    with pytest.raises(
        SetupError, match=r"needs 3\.50 GiB \(weights 3\.00 GiB, cache 0\.50 GiB\) but the GPU has 2"
    ):
        check_fit(needed=needed, available=2 * 2**30, device="the GPU")
