from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runtimes.errors import SetupError
from runtimes.weights import (
    WeightFacts,
    check_fit,
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


@pytest.mark.parametrize("damage", [b"", b"\x08", b"\xff" * 64, b"PK\x03\x04 a zip archive"])
def test_it_names_a_file_that_is_no_safetensors(folder: Path, damage: bytes) -> None:
    (folder / "model-2.safetensors").write_bytes(damage)

    with pytest.raises(SetupError, match=r"model-2\.safetensors is not a whole safetensors file"):
        read_weights(folder)


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
