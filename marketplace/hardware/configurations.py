"""Checks what staff write into a cluster's configuration, by the rules of whoever opens clusters of that
kind.

The marketplace does not know those rules, and must not import what does: the deployment manager registers its
check when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ValidationError

Check = Callable[[str, Mapping[str, Any]], str]
"""Takes kind and configuration; returns what is wrong, naming the field, or nothing."""

_checks: list[Check] = []


def register_check(check: Check) -> None:
    """Has every configuration checked by `check` before it is stored."""
    if check not in _checks:
        _checks.append(check)


def check_configuration(kind: str, configuration: Mapping[str, Any]) -> None:
    """Raises ValidationError on the field `configuration`."""
    for check in _checks:
        if problem := check(kind, configuration):
            raise ValidationError({"configuration": problem})
