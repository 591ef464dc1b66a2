"""Public ids: prefixed, sortable by time, and the only ids that customers see.

`dep_01jz4m…`: the prefix says what it names, the rest is a ULID (https://github.com/ulid/spec) in lower case.
With the underscore read as a hyphen an id is a valid Kubernetes name of 30 characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from ulid import ULID

if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField


def make_public_id(prefix: str) -> str:
    """A new id, for example `dep_01jz4m8k3v9x2c5n7q0r1s6t8w`."""
    return f"{prefix}_{str(ULID()).lower()}"


class PublicIdField(CharField):
    """A unique column filled with a new public id when the row is made."""

    def __init__(self, prefix: str = "", **options: Any) -> None:
        self.prefix = prefix
        super().__init__(**({"max_length": 40, "unique": True, "editable": False} | options))

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        return name, path, args, options | {"prefix": self.prefix}

    def get_default(self) -> str:
        return make_public_id(self.prefix)
