from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
from ctranslate2.converters import TransformersConverter

from runtimes.contract import ExitCode
from runtimes.convert_whisper import main


@pytest.mark.weights
def test_converting_back_gives_the_same_bytes(
    whisper_sources: list[Path], whisper_folder: Path, tmp_path: Path
) -> None:
    """CTranslate2's own converter is the other direction: nothing was lost, added or misnamed."""
    TransformersConverter(str(whisper_folder), load_as_float16=True).convert(str(tmp_path / "back"))

    parts = sorted(path for source in whisper_sources for path in source.glob("model.bin.part*"))
    whole = b"".join(path.read_bytes() for path in parts)
    assert (tmp_path / "back" / "model.bin").read_bytes() == whole
    original, back = (
        json.loads((folder / "config.json").read_text()) for folder in (whisper_sources[1], tmp_path / "back")
    )
    assert back == original


@pytest.mark.weights
def test_the_folder_says_what_the_model_can_do(whisper_folder: Path) -> None:
    settings = json.loads((whisper_folder / "generation_config.json").read_text())

    assert settings["lang_to_id"]["<|lb|>"] == 50345
    assert len(settings["lang_to_id"]) == 99
    assert settings["task_to_id"] == {"transcribe": 50359, "translate": 50358}
    assert settings["no_timestamps_token_id"] == 50363
    assert {path.name for path in whisper_folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(b"/" not in path.read_bytes() for path in whisper_folder.glob("*config.json"))


def model_bin(*, version: int = 6, spec: str = "WhisperSpec", kind: int = 0, variables: int = 1) -> bytes:
    """A file with the single variable `decoder/num_heads` = 8, unless `variables` promises more."""
    head = struct.pack("<IH", version, len(spec) + 1) + spec.encode() + b"\0"
    name = b"decoder/num_heads\0"
    return head + struct.pack("<IIH", 3, variables, len(name)) + name + struct.pack("<BBIf", 0, kind, 4, 8.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends in the middle"),
        (b"GGUF" * 9, "says version"),
        (model_bin(version=5), "says version 5; 6 is known"),
        (model_bin(spec="TransformerSpec"), "has a TransformerSpec, not a WhisperSpec"),
        (model_bin(kind=9), "decoder/num_heads has values of a type 9"),
        (model_bin(variables=2), "ends in the middle"),
        (model_bin(), "cannot be read as a Whisper model"),
    ],
)
def test_it_says_what_is_wrong_with_the_file(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(content)
    (source / "config.json").write_text("{}")
    (source / "tokenizer.json").write_text("{}")

    assert main([str(source), str(tmp_path / "folder")]) == ExitCode.BAD_INPUT
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_it_says_which_file_is_missing(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in {"model.bin", "config.json", "tokenizer.json"} - {missing}:
        (source / name).write_bytes(model_bin() if name == "model.bin" else b"{}")

    assert main([str(source), str(tmp_path / "folder")]) == ExitCode.BAD_INPUT
    assert f"there is no {missing}" in capsys.readouterr().err


def test_it_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    assert main([str(tmp_path), str(folder)]) == ExitCode.BAD_INPUT
    assert f"{folder} already exists" in capsys.readouterr().err
    shutil.rmtree(folder)
