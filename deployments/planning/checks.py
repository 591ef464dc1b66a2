"""One question that a plan answers, with its numbers.

A check that fails says what is needed, what there is, who can change it and what would help, so that nobody
has to ask why.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Who(StrEnum):
    """Who can make a failed check pass."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    UPSTREAM = "upstream"


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one question. `need` and `available` are in `unit`."""

    name: str
    passed: bool
    message: str
    need: float | None = None
    available: float | None = None
    unit: str = ""
    who: Who | None = None
    """None when it passed."""
    remedy: str = ""
    blocking: bool = True
    """False: worth saying, but the deployment may go ahead (it would wait, or start slower)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gib(size: int) -> str:
    """Bytes for a sentence: "3.2 GiB"."""
    return f"{size / 2**30:.1f} GiB"
