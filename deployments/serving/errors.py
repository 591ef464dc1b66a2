"""Why a wish was refused, in the customer's terms. The REST layer turns these into problem details."""

from __future__ import annotations

from typing import Any


class WishRefused(Exception):
    """Nothing was changed. `field` names what the customer would change; `extra` carries numbers."""

    def __init__(self, message: str, *, type: str, field: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.field = field
        self.extra = extra
