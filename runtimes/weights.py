"""What must be true of a model folder before anything in it is loaded: the bytes are those that were
approved, they are safetensors, no code comes with them, and they fit the memory.

Nothing here imports torch, so that it runs while torch is still being imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from runtimes.errors import SetupError

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}

_CODE_SUFFIXES = (".py", ".so", ".dll", ".dylib")
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What the headers of the safetensors files say."""

    files: tuple[str, ...]
    parameters: int
    """Number of values in all tensors."""
    stored_bytes: int

    def bytes_in(self, dtype: str) -> int:
        """Memory the weights take once loaded in `dtype`."""
        return self.parameters * BYTES_PER_VALUE[dtype]


def verify_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Compares every file named in `digests` (relative path -> lower-case hex sha256) with its bytes on disk.

    With digests given, a file of weights they do not name is refused too, since it would be loaded unseen.
    Raises SetupError that names the first file at fault.
    """
    if not digests:
        return
    for name in digests:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise SetupError(f"digests name {name!r}, which lies outside the folder {folder}")
    named = set(digests)
    for found in [*_names(folder, ".safetensors"), *_names(folder, ".gguf")]:
        if found not in named:
            raise SetupError(f"{folder / found} is not in the manifest of digests, so its content is unknown")
    # hashlib lets other threads run, so two files are read at once and torch can be imported meanwhile.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, actual in zip(digests, pool.map(lambda name: _sha256(folder / name), digests), strict=True):
            if actual != digests[name].lower():
                raise SetupError(
                    f"{folder / name} is not the file that was approved: its sha256 is {actual}, "
                    f"the manifest says {digests[name]}; fetch the model again"
                )


def read_weights(folder: Path) -> WeightFacts:
    """Reads the headers of all safetensors files. Raises SetupError when there are none or one is damaged."""
    refuse_links(folder)
    names = _names(folder, ".safetensors")
    if not names:
        pickles = [name for suffix in _PICKLE_SUFFIXES for name in _names(folder, suffix)]
        hint = f" ({pickles[0]} is a pickle, which can run code and is never loaded)" if pickles else ""
        raise SetupError(f"{folder} has no *.safetensors file{hint}; only safetensors weights are served")
    parameters = stored = 0
    for name in names:
        path = folder / name
        try:
            with safe_open(path, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a mapping
                    parameters += prod(tensors.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            _refuse_pickle(path)
            raise SetupError(f"{path} is not a whole safetensors file: {error}") from error
        stored += path.stat().st_size
    for name in _names(folder, ".safetensors.index.json"):
        _check_index(folder / name)
    return WeightFacts(files=tuple(names), parameters=parameters, stored_bytes=stored)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The configuration file as a mapping.

    Raises SetupError when it is missing, not JSON, or asks for code.
    """
    path = folder / name
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SetupError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise SetupError(f"{path} should hold a JSON object")
    if "auto_map" in config:
        raise SetupError(f"{path} asks to run code of its own (auto_map), which is never done")
    _refuse_quantized(config, path=path)
    return config


def refuse_code(folder: Path) -> None:
    """Raises SetupError when the folder carries program files: nothing would run them, and nothing should."""
    for suffix in _CODE_SUFFIXES:
        for name in _names(folder, suffix):
            raise SetupError(
                f"{folder / name} is program code; a model folder holds weights and configuration only"
            )


def refuse_links(folder: Path) -> None:
    """Raises SetupError when a file of the folder is a link to somewhere outside of it: what it leads to may
    change after its digest was checked, and is nobody's part of the version.
    """
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise SetupError(
                f"{path} is a link that leads out of the model folder, to {path.readlink()}; "
                "put the file itself there"
            )


def only_gguf(folder: Path) -> Path | None:
    """The folder's GGUF file when that is all the weights it has, else None.

    Raises SetupError when there are several: they are the same model in several precisions.
    """
    files = _names(folder, ".gguf")
    if not files or _names(folder, ".safetensors"):
        return None
    if len(files) > 1:
        raise SetupError(f"{folder} has several GGUF files ({', '.join(files)}); leave the one to serve")
    return folder / files[0]


def check_fit(*, needed: Mapping[str, int], available: int, device: str) -> int:
    """Adds up the predicted bytes (name of the part -> bytes) and returns the sum.

    Raises SetupError with every number when the sum exceeds `available`.
    """
    total = sum(needed.values())
    if total > available:
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in needed.items())
        raise SetupError(
            f"the model needs {_gib(total)} ({parts}) but {device} has {_gib(available)} free; lower "
            "RUNTIME_CONTEXT_LENGTH or RUNTIME_MAX_CONCURRENCY, use a smaller precision or a larger flavor"
        )
    return total


def stay_offline() -> None:
    """Tells the Hugging Face libraries never to use the network. Call before they are imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _check_index(path: Path) -> None:
    """Raises SetupError unless every shard that the index names is a safetensors file beside it that has the
    tensors the index says.
    """
    try:
        index = json.loads(path.read_bytes())
        shards: dict[str, set[str]] = {}
        for tensor, shard in index["weight_map"].items():
            shards.setdefault(str(shard), set()).add(tensor)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SetupError(f"{path} is no index of shards: it should have a weight_map of names") from error
    for shard, tensors in sorted(shards.items()):
        if PurePosixPath(shard).name != shard or "\\" in shard:
            raise SetupError(f"{path} names {shard!r}, which lies outside its folder")
        if not shard.endswith(".safetensors"):
            raise SetupError(f"{path} names {shard!r}; only safetensors weights are served")
        if not (path.parent / shard).is_file():
            raise SetupError(f"{path} names {shard}, which is missing; fetch the model again")
        with safe_open(path.parent / shard, framework="np") as file:
            absent = sorted(tensors - set(file.keys()))
        if absent:
            raise SetupError(f"{path} says that {shard} has {absent[0]!r}, which it has not")


def _refuse_pickle(path: Path) -> None:
    """Names what the reader of safetensors only calls an invalid header. Not for files that it reads: the
    length of a header may begin with the bytes of a pickle.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}") from error
    # A zip archive, as torch.save writes it, or the opcode of a pickle's protocol.
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        raise SetupError(
            f"{path} is a pickle under another name, which can run code and is never loaded; "
            "only safetensors weights are served"
        )


def _refuse_quantized(config: Mapping[str, Any], *, path: Path) -> None:
    """Raises SetupError for weights that were quantized: the engines of this image compute in BYTES_PER_VALUE
    alone, and loading them as if they were whole would answer nonsense or fail late.
    """
    settings = config.get("quantization_config")
    if not settings:
        return
    method = settings.get("quant_method", "an unnamed method") if isinstance(settings, Mapping) else settings
    raise SetupError(
        f"{path} says that the weights are quantized by {method}, which no engine of this image computes; "
        "deploy a recipe whose engine does (such as vLLM for gptq and awq), or a version of the model in "
        f"{', '.join(BYTES_PER_VALUE)}"
    )


def _names(folder: Path, suffix: str) -> list[str]:
    """Files below the folder with this suffix, as sorted relative POSIX paths."""
    found: Iterable[Path] = folder.rglob(f"*{suffix}")
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SetupError(
            f"{path} is in the manifest of digests but cannot be read: {error.strerror or error}"
        ) from error


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
