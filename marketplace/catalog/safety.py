"""Refuses model files that could run code, escape their folder, or break what loads them.

Every wanted file is checked by what it contains, not by what it is called: a pickle renamed to
`model.safetensors` is a malformed safetensors file. A refusal names the file, the reason and the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from marketplace.catalog.chat_templates import find_suspicions
from marketplace.catalog.selection import SENTENCEPIECE_NAMES, WEIGHTS, Selection
from marketplace.catalog.tensors import MalformedHeader, read_tensors

MIB = 2**20
LARGEST_JSON = 128 * MIB
"""tokenizer.json of the largest vocabularies has some 35 MB."""
LARGEST_TOKENIZER = 64 * MIB
LARGEST_WEIGHTS_FILE = 100 * 10**9
LARGEST_MODEL = 2 * 10**12
MOST_FILES = 2_000

# What files start with that have no place in a model. Pickle protocol 2 to 5 starts with 0x80 and its number.
MAGIC = {
    **{b"\x80" + bytes([protocol]): "a Python pickle" for protocol in range(2, 6)},
    b"PK\x03\x04": "a ZIP archive (as torch.save writes)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy array",
    b"#!": "a script",
}
SAFE_LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion"})
"""What a diffusers model_index.json may name: classes that ship with the runtime. stable_diffusion is how
pipelines name the safety checker that lies inside diffusers."""
USE_SAFETENSORS = "Save the weights with safetensors (model.save_pretrained(...)) and import that."


@dataclass(frozen=True)
class Refusal:
    """One reason why a model is not taken."""

    file: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}. {self.remedy}"


class UnsafeModel(ValueError):
    """The model is not taken; `refusals` has at least one reason."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__("\n".join(str(refusal) for refusal in refusals))
        self.refusals = refusals


def check_selection(selection: Selection, *, strict: bool) -> list[Refusal]:
    """What speaks against a listing. strict: a pickle or a program is refused even beside safe weights."""
    refusals = []
    if strict or not selection.has_weights:
        refusals += [
            Refusal(path, "it is a pickle, which runs code when it is loaded", USE_SAFETENSORS)
            for path in selection.pickles
        ]
    if strict:
        refusals += [
            Refusal(path, "it is code, and models are taken without code", "Remove it from the folder.")
            for path in selection.code
        ]
    if not refusals and not selection.has_weights:
        refusals.append(Refusal(".", "there is no *.safetensors file", USE_SAFETENSORS))
    return refusals


def check_sizes(sizes: Mapping[str, int]) -> list[Refusal]:
    """What speaks against the sizes in bytes of the wanted files."""
    refusals = [
        Refusal(path, f"it has {size:,} bytes, more than {limit:,}", "Split it, or leave it out.")
        for path, size in sizes.items()
        if size > (limit := _largest(path))
    ]
    total = sum(sizes.values())
    if total > LARGEST_MODEL:
        refusals.append(Refusal(".", f"the files have {total:,} bytes in all", "Import a smaller variant."))
    if len(sizes) > MOST_FILES:
        refusals.append(Refusal(".", f"there are {len(sizes):,} files", "Import only the model's own files."))
    return refusals


def check_path(root: Path, path: str) -> list[Refusal]:
    """What speaks against the place of a file: a link or a name that leaves the folder."""
    remedy = "Copy the file itself into the folder (cp -L follows links)."
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\x00" in path or "\\" in path:
        return [Refusal(path, "its name leads out of the folder", remedy)]
    if not (root / path).resolve().is_relative_to(root.resolve()):
        return [Refusal(path, "it is a link that leads out of the folder", remedy)]
    if not (root / path).is_file():
        return [Refusal(path, "it is not a regular file", remedy)]
    return []


def check_content(root: Path, path: str) -> list[Refusal]:
    """What speaks against one wanted file that lies below `root`."""
    file = root / path
    with file.open("rb") as opened:
        start = opened.read(8)
    if path.endswith(WEIGHTS):
        return list(_check_weights(file, path, start))
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return [Refusal(path, f"it is {kind}, whatever its name says", USE_SAFETENSORS)]
    if path.endswith(".json"):
        return list(_check_json(file, path))
    if PurePosixPath(path).name in SENTENCEPIECE_NAMES:
        return []
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [Refusal(path, "it is not UTF-8 text", "Save it as text.")]
    return list(_check_template(path, text)) if path.endswith(".jinja") else []


def _largest(path: str) -> int:
    if path.endswith(WEIGHTS):
        return LARGEST_WEIGHTS_FILE
    return LARGEST_JSON if path.endswith(".json") else LARGEST_TOKENIZER


def _check_weights(file: Path, path: str, start: bytes) -> Iterator[Refusal]:
    try:
        read_tensors(file)
    except MalformedHeader as error:
        # A safetensors header of this length would be refused anyway; the kind makes the reason plain.
        kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
        reason = (
            f"it is {kind}, whatever its name says"
            if kind
            else f"it is not a whole safetensors file: {error}"
        )
        yield Refusal(path, reason, USE_SAFETENSORS if kind else "Download or save it again.")


def _check_json(file: Path, path: str) -> Iterator[Refusal]:
    try:
        value = json.loads(file.read_bytes())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        yield Refusal(path, f"it is not JSON: {error}", "Save it again as UTF-8 JSON.")
        return
    name = PurePosixPath(path).name
    if name == "modules.json":
        yield from _check_modules(path, value)
    elif name == "model_index.json":
        yield from _check_model_index(path, value)
    if not isinstance(value, dict):
        return
    if value.get("auto_map") or value.get("trust_remote_code") or value.get("custom_pipelines"):
        yield Refusal(
            path,
            "it asks for Python code of the model (auto_map, trust_remote_code or custom_pipelines)",
            "Import a version whose architecture the runtime's libraries have themselves.",
        )
    yield from _check_template(path, value.get("chat_template"))


def _check_template(path: str, template: Any) -> Iterator[Refusal]:
    """A template as text, or several: {"name": text}, [{"name", "template"}]."""
    match template:
        case str():
            for suspicion in find_suspicions(template):
                yield Refusal(path, suspicion, "Replace it with one that only formats the messages.")
        case dict():
            for text in template.values():
                yield from _check_template(path, text)
        case list():
            for row in template:
                yield from _check_template(path, row.get("template") if isinstance(row, dict) else row)


def _check_modules(path: str, value: Any) -> Iterator[Refusal]:
    """Sentence-transformers' list of modules: each names a class, which may be anyone's."""
    for row in value if isinstance(value, list) else []:
        kind = str(row.get("type", "")) if isinstance(row, dict) else ""
        if not kind.startswith("sentence_transformers."):
            yield Refusal(path, f"it loads {kind!r}", "Use modules of sentence_transformers only.")


def _check_model_index(path: str, value: Any) -> Iterator[Refusal]:
    """Diffusers' list of parts: {"unet": ["diffusers", "UNet2DConditionModel"]}."""
    for part, place in value.items() if isinstance(value, dict) else []:
        library = place[0] if isinstance(place, list) and len(place) == 2 else None
        if library is not None and not part.startswith("_") and library not in SAFE_LIBRARIES:
            yield Refusal(path, f"its part {part!r} comes from {library!r}", "Use parts of diffusers only.")
