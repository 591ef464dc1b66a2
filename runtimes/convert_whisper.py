"""Turns a Whisper model of CTranslate2 into a folder that the speech runtime serves.

    python -m runtimes.convert_whisper SOURCE [SOURCE ...] FOLDER

The sources are folders that together hold model.bin, whole or in parts (model.bin.part1, ...), config.json
and tokenizer.json. Weights keep their precision to the bit: no value is computed, only fused matrices are
split. The same files always give the same bytes, so that the folder's digests can be pinned in the catalog.
The folder appears whole or not at all.

Layout of the file: `ModelSpec._serialize` of ctranslate2/specs/model_spec.py, version 6.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from runtimes.contract import ExitCode
from runtimes.dequantize import tidy
from runtimes.errors import SetupError
from runtimes.weights import stay_offline

if TYPE_CHECKING:
    import numpy as np

    Tensors = dict[str, np.ndarray[Any, Any]]

VERSION = 6
_TYPES = ("float32", "int8", "int16", "int32", "float16")
"""numpy's names of CTranslate2's types that have one, in its order."""
_LARGEST_FIELD = 2**16
"""No name is longer; a file that says otherwise is no such file."""

_ATTENTION = {"self_attention": "self_attn", "attention": "encoder_attn"}
_NORMS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
}
_LINEAR = {"ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.convert_whisper", description=__doc__)
    parser.add_argument("sources", type=Path, metavar="SOURCE", nargs="+")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="must not exist yet")
    values = parser.parse_args(arguments)
    try:
        convert(values.sources, folder=values.folder)
    except SetupError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_INPUT
    return ExitCode.DONE


def convert(sources: list[Path], *, folder: Path) -> None:
    """Writes the folder. Raises SetupError when the sources are no such model or the folder is there."""
    if folder.exists():
        raise SetupError(f"{folder} already exists; remove it or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with tempfile.TemporaryFile(dir=folder.parent) as whole:
            for part in _parts(sources):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, whole)
            whole.seek(0)
            tensors = read_tensors(whole)
        _write(
            tensors,
            settings=json.loads(_find(sources, "config.json").read_bytes()),
            tokenizer=_find(sources, "tokenizer.json"),
            folder=work,
        )
        tidy(work)
        work.rename(folder)
    except OSError as error:
        raise SetupError(f"{folder} cannot be written: {error.strerror or error}") from error
    except (ValueError, KeyError, RuntimeError) as error:
        names = ", ".join(map(str, sources))
        raise SetupError(f"{names} cannot be read as a Whisper model of CTranslate2: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_tensors(file: BinaryIO) -> Tensors:
    """All variables of a model.bin by name; aliases are left out. Raises ValueError for any other file."""
    import numpy as np

    version = _number(file, "I")
    if version != VERSION:
        raise ValueError(f"model.bin says version {version}; {VERSION} is known")
    if (spec := _text(file)) != "WhisperSpec":
        raise ValueError(f"model.bin has a {spec}, not a WhisperSpec")
    _number(file, "I")  # revision of the layout: the names below are looked up, so a new one shows
    tensors: Tensors = {}
    for _ in range(_number(file, "I")):
        name = _text(file)
        shape = tuple(_number(file, "I") for _ in range(_number(file, "B")))
        kind, size = _number(file, "B"), _number(file, "I")
        if kind >= len(_TYPES):
            raise ValueError(f"{name} has values of a type {kind} that is not known")
        content = np.frombuffer(_bytes(file, size), dtype=_TYPES[kind])
        tensors[name] = content.reshape(shape)
    return tensors


def to_transformers(tensors: Tensors) -> Tensors:
    """The same values under the names of transformers, fused projections split."""
    import numpy as np

    named: Tensors = {"proj_out.weight": tensors["decoder/embeddings/weight"]}

    def put(name: str, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        named.update({f"model.{name}.{key}": np.ascontiguousarray(value) for key, value in values.items()})

    for side in ("encoder", "decoder"):
        put(f"{side}.embed_positions", {"weight": tensors[f"{side}/position_encodings/encodings"]})
        put(f"{side}.layer_norm", _norm(tensors, f"{side}/layer_norm"))
        for layer in sorted(_layers(tensors, side)):
            old, new = f"{side}/layer_{layer}", f"{side}.layers.{layer}"
            for key, name in _NORMS.items():
                if f"{old}/{key}/gamma" in tensors:
                    put(f"{new}.{name}", _norm(tensors, f"{old}/{key}"))
            for key, name in _LINEAR.items():
                put(f"{new}.{name}", _linear(tensors, f"{old}/{key}"))
            for key, name in _ATTENTION.items():
                if f"{old}/{key}/linear_0/weight" in tensors:
                    for projection, values in _projections(tensors, f"{old}/{key}"):
                        put(f"{new}.{name}.{projection}", values)
    put("decoder.embed_tokens", {"weight": tensors["decoder/embeddings/weight"]})
    for number in (1, 2):
        put(f"encoder.conv{number}", _linear(tensors, f"encoder/conv{number}"))
    return named


def _projections(tensors: Tensors, name: str) -> Iterator[tuple[str, Tensors]]:
    """Queries, keys and values are fused in one matrix for self-attention; keys and values in one for the
    attention to the encoder. Whisper's keys have no bias; CTranslate2 writes zeros in its place.
    """
    import numpy as np

    count = sum(f"{name}/linear_{index}/weight" in tensors for index in range(3))
    groups = [["q_proj", "k_proj", "v_proj"]] if count == 2 else [["q_proj"], ["k_proj", "v_proj"]]
    for index, names in enumerate([*groups, ["out_proj"]]):
        fused = _linear(tensors, f"{name}/linear_{index}")
        split = {key: np.split(value, len(names)) for key, value in fused.items()}
        for position, projection in enumerate(names):
            values = {key: parts[position] for key, parts in split.items()}
            if projection == "k_proj" and values.pop("bias", np.zeros(0)).any():
                raise ValueError(f"{name} has a bias of keys, which Whisper has not")
            yield projection, values


def _linear(tensors: Tensors, name: str) -> Tensors:
    if f"{name}/weight_scale" in tensors:
        raise ValueError(f"{name} is quantized to int8: convert from the float16 or float32 weights")
    keys = ("weight", "bias")
    return {key: tensors[f"{name}/{key}"] for key in keys if f"{name}/{key}" in tensors}


def _norm(tensors: Tensors, name: str) -> Tensors:
    return {"weight": tensors[f"{name}/gamma"], "bias": tensors[f"{name}/beta"]}


def _layers(tensors: Tensors, side: str) -> set[int]:
    return {int(found[1]) for name in tensors if (found := re.match(rf"{side}/layer_(\d+)/", name))}


def _write(tensors: Tensors, *, settings: dict[str, Any], tokenizer: Path, folder: Path) -> None:
    # Imported late, so that a wrong argument is answered at once.
    stay_offline()
    import torch
    import transformers
    from transformers.utils import logging

    library: Any = transformers  # typed in parts only
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    words = _read_tokenizer(library.WhisperTokenizer, tokenizer)
    special: dict[str, int] = words.get_added_vocab()
    frames, width = tensors["encoder/position_encodings/encodings"].shape
    tokens = {
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|endoftext|>"],
        "pad_token_id": special["<|endoftext|>"],
        "decoder_start_token_id": special["<|startoftranscript|>"],
    }
    config = library.WhisperConfig(
        vocab_size=tensors["decoder/embeddings/weight"].shape[0],
        num_mel_bins=tensors["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=len(_layers(tensors, "encoder")),
        decoder_layers=len(_layers(tensors, "decoder")),
        encoder_attention_heads=int(tensors["encoder/num_heads"]),
        decoder_attention_heads=int(tensors["decoder/num_heads"]),
        encoder_ffn_dim=tensors["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=tensors["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        max_source_positions=frames,
        max_target_positions=tensors["decoder/position_encodings/encodings"].shape[0],
        **tokens,
    )
    dtype = getattr(torch, str(tensors["decoder/embeddings/weight"].dtype))
    model = library.WhisperForConditionalGeneration(config).to(dtype)
    values = {name: torch.from_numpy(value.copy()) for name, value in to_transformers(tensors).items()}
    model.load_state_dict(values, strict=True)
    model.generation_config = library.GenerationConfig(
        **tokens,
        max_length=config.max_target_positions,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        lang_to_id={_token(special, number): number for number in settings["lang_ids"]},
        task_to_id={"transcribe": special["<|transcribe|>"], "translate": special["<|translate|>"]},
        no_timestamps_token_id=special["<|notimestamps|>"],
        prev_sot_token_id=special["<|startofprev|>"],
        max_initial_timestamp_index=50,
        is_multilingual=bool(settings["lang_ids"]),
        return_timestamps=False,
    )
    model.save_pretrained(folder)
    library.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "WhisperTokenizer", "model_max_length": config.max_target_positions})
    )


def _read_tokenizer(kind: Any, file: Path) -> Any:
    try:
        return kind(tokenizer_file=str(file))
    except Exception as error:  # the tokenizers library raises nothing more exact
        raise ValueError(f"{file.name} is not a tokenizer: {error}") from error


def _token(special: Mapping[str, int], number: int) -> str:
    return next(token for token, known in special.items() if known == number)


def _parts(sources: list[Path]) -> list[Path]:
    parts = sorted(
        (path for source in sources for path in source.glob("model.bin*")),
        key=lambda path: int("0" + "".join(filter(str.isdigit, path.suffix))),
    )
    if not parts:
        raise SetupError(f"there is no model.bin, whole or in parts, in {', '.join(map(str, sources))}")
    return parts


def _find(sources: list[Path], name: str) -> Path:
    for source in sources:
        if (source / name).is_file():
            return source / name
    raise SetupError(f"there is no {name} in {', '.join(map(str, sources))}")


def _number(file: BinaryIO, kind: str) -> int:
    (number,) = struct.unpack(f"<{kind}", _bytes(file, struct.calcsize(f"<{kind}")))
    return int(number)


def _text(file: BinaryIO) -> str:
    size = _number(file, "H")
    if not 0 < size < _LARGEST_FIELD:
        raise ValueError("model.bin has a name without an end")
    return _bytes(file, size).rstrip(b"\0").decode()


def _bytes(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("model.bin ends in the middle of a value")
    return content


if __name__ == "__main__":
    sys.exit(main())
