"""Which services are somebody else's, so that none of ours is started in their place."""

from __future__ import annotations

from collections.abc import Mapping


def is_outside(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether DATABASE_URL or BROKER_URL names a server, by its value or by a file that has it."""
    return bool(environment.get(variable) or environment.get(f"{variable}_FILE"))
