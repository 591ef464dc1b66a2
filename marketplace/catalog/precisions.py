"""How many bytes a value takes in each precision that the catalog names. Pure."""

from __future__ import annotations

BYTES_PER_VALUE = {
    **{"float64": 8.0, "float32": 4.0, "bfloat16": 2.0, "float16": 2.0},
    **{"float8": 1.0, "int8": 1.0, "int4": 0.5},
}
