"""Reads and checks the header of a safetensors file: names, types, shapes and where each tensor lies.

The format: https://github.com/huggingface/safetensors#format. Eight bytes of little-endian header length,
a JSON header, then the tensors with neither gap nor overlap. Reading it needs no weights and no framework.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""
LENGTH_BYTES = 8

BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64},
    **{"F32": 32, "I32": 32, "U32": 32},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8},
    **{"BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
"""Bits of one value."""

PRECISIONS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8",
    "F8_E5M2": "float8",
}
"""How the catalog names the types that hold parameters."""


class MalformedHeader(ValueError):
    """The file is not a whole safetensors file. The message says what is wrong."""


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return math.prod(self.shape)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises MalformedHeader."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LENGTH_BYTES)
        if len(start) < LENGTH_BYTES:
            raise MalformedHeader(f"it has {size} bytes, fewer than the 8 of the header length")
        length = int.from_bytes(start, "little")
        if length > LONGEST_HEADER or LENGTH_BYTES + length > size:
            raise MalformedHeader(f"it announces a header of {length} bytes, and has {size} bytes in all")
        header = file.read(length)
    return parse_header(header, data_bytes=size - LENGTH_BYTES - length)


def parse_header(header: bytes, *, data_bytes: int) -> dict[str, Tensor]:
    """The tensors of a header whose data part has `data_bytes` bytes. Raises MalformedHeader."""
    try:
        rows = json.loads(header.decode(), object_pairs_hook=_without_duplicates)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MalformedHeader(f"its header is not JSON: {error}") from error
    if not isinstance(rows, dict):
        raise MalformedHeader("its header is not a JSON object")
    rows.pop("__metadata__", None)
    tensors = {}
    spans = []
    for name, row in rows.items():
        tensor, begin, end = _read_row(name, row)
        tensors[name] = tensor
        spans.append((begin, end, name))
    _check_spans(sorted(spans), data_bytes)
    return tensors


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key appears twice")
    return value


def _read_row(name: str, row: Any) -> tuple[Tensor, int, int]:
    match row:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise MalformedHeader(f"tensor {name!r} lacks dtype, shape or data_offsets")
    if dtype not in BITS:
        raise MalformedHeader(f"tensor {name!r} has the unknown type {dtype!r}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise MalformedHeader(f"tensor {name!r} has the shape {shape!r}")
    tensor = Tensor(dtype, tuple(shape))
    bits = tensor.values * BITS[dtype]
    if bits % 8 or begin < 0 or end - begin != bits // 8:
        raise MalformedHeader(
            f"tensor {name!r} of type {dtype} and shape {shape} has the offsets {begin} to {end}, "
            "which is not its size"
        )
    return tensor, begin, end


def _check_spans(spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    reached = 0
    for begin, end, name in spans:
        if begin != reached:
            kind = "overlaps the one before" if begin < reached else "leaves a gap before it"
            raise MalformedHeader(f"tensor {name!r} {kind}")
        reached = end
    if reached != data_bytes:
        raise MalformedHeader(f"its tensors end at byte {reached} of {data_bytes}")


def count_parameters(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Values by safetensors type, of tensors that hold parameters: integer tensors are buffers."""
    counts: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.dtype in PRECISIONS:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.values
    return counts


def main_precision(counts: Mapping[str, int]) -> str:
    """The precision that most parameters have; empty when there are none."""
    return PRECISIONS.get(max(counts, key=lambda dtype: counts[dtype]), "") if counts else ""
