"""Which files of a model are wanted, from their names alone. Pure.

Only what a runtime loads without running code: weights as safetensors, configurations as JSON, and the
files of tokenizers. Everything else is passed over, or named as unsafe where its kind can run code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

WEIGHTS = ".safetensors"
TEXT_NAMES = frozenset({"vocab.txt", "merges.txt", "special_tokens_map.txt"})
SENTENCEPIECE_NAMES = frozenset(
    {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "source.spm", "target.spm"}
)
PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".dill", ".nemo"}
)
CODE = frozenset(
    {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".ipynb", ".js", ".jar", ".exe", ".lua"}
)
OTHER_WEIGHTS = frozenset({".h5", ".keras", ".msgpack", ".onnx", ".ot", ".tflite", ".pb", ".gguf", ".ggml"})
FOREIGN_FOLDERS = frozenset({"onnx", "openvino", "original", "coreml", "flax", "tf", "gguf"})
"""Folders in which repositories keep the same weights for other libraries."""
VARIANTS = ("fp16", "bf16", "fp32", "non_ema", "ema")
"""`model.fp16.safetensors` beside `model.safetensors`: the same weights again."""


@dataclass(frozen=True)
class Selection:
    wanted: tuple[str, ...]
    skipped: tuple[str, ...]
    pickles: tuple[str, ...]
    code: tuple[str, ...]

    @property
    def has_weights(self) -> bool:
        return any(path.endswith(WEIGHTS) for path in self.wanted)


def is_wanted(path: str) -> bool:
    """Whether a runtime may load a file of this name."""
    name = PurePosixPath(path).name
    return name.endswith((WEIGHTS, ".json", ".jinja")) or name in TEXT_NAMES or name in SENTENCEPIECE_NAMES


def select_files(paths: Iterable[str]) -> Selection:
    """Sorts a listing into what to take, what to pass over, and what is unsafe."""
    names = sorted(paths)
    everything = set(names)
    wanted, skipped, pickles, code = [], [], [], []
    for path in names:
        pure = PurePosixPath(path)
        if any(part.startswith(".") for part in pure.parts) or FOREIGN_FOLDERS & set(pure.parts[:-1]):
            skipped.append(path)
        elif pure.suffix.lower() in PICKLES:
            pickles.append(path)
        elif pure.suffix.lower() in CODE:
            code.append(path)
        elif is_wanted(path) and not _is_duplicate(pure, everything):
            wanted.append(path)
        else:
            skipped.append(path)
    return Selection(tuple(wanted), tuple(skipped), tuple(pickles), tuple(code))


def _is_duplicate(path: PurePosixPath, everything: set[str]) -> bool:
    """Whether the repository has these weights under the usual name too."""
    if path.suffix != WEIGHTS and not path.name.endswith(".safetensors.index.json"):
        return False
    if "model_index.json" in everything and len(path.parts) == 1:
        return True  # a diffusers repository: its parts lie in folders, a file at the root holds all of them
    if path.name.startswith("consolidated"):
        return bool({"model.safetensors", "model.safetensors.index.json"} & everything)
    for variant in VARIANTS:
        if f".{variant}" in path.name:
            plain = path.with_name(path.name.replace(f".{variant}", "", 1))
            sharded = plain.with_name(
                f"{plain.name.partition('.safetensors')[0].partition('-0')[0]}{WEIGHTS}"
            )
            return str(plain) in everything or str(sharded) in everything
    return False
