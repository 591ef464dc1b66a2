"""Conditions: what holds of a workload and what does not, a reason for programs and a message for people.

As in Kubernetes: `since` is when the status last changed, so it stays while only the words change. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One statement about a workload. `type` is what about: Ready, Updated, Succeeded, Reconciled."""

    type: str
    holds: bool
    reason: str
    """CamelCase."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why the cluster could not be made as wanted: what the last attempt ran into."""

    reason: str
    """Rejected, Forbidden, NoCapacity, Unreachable, Misconfigured, Conflict or InternalError."""
    message: str

    @property
    def is_final(self) -> bool:
        """The cluster refuses the object as it is: nothing but another wish helps."""
        return self.reason == "Rejected"

    @property
    def is_known(self) -> bool:
        """The cluster answered. Facts can be recorded, only the steps must wait."""
        return self.reason in ("Rejected", "Forbidden", "NoCapacity", "Conflict")


RECONCILED = "Reconciled"
"""The condition that says whether the cluster is as wanted."""


def reconciled(problem: Problem | None) -> Condition:
    """The condition Reconciled."""
    if problem is None:
        return Condition(
            type=RECONCILED, holds=True, reason="AsWanted", message="The cluster has what is wanted."
        )
    return Condition(type=RECONCILED, holds=False, reason=problem.reason, message=problem.message)


def problem_in(conditions: Iterable[dict[str, Any]]) -> Problem | None:
    """The problem that the stored conditions tell of."""
    for stored in conditions:
        if stored["type"] == RECONCILED and stored["status"] == "False":
            return Problem(reason=stored["reason"], message=stored["message"])
    return None


def conditions_json(
    conditions: Sequence[Condition], *, before: Iterable[dict[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    """The conditions as they are stored: `status` is "True" or "False", `since` ISO 8601.

    `before` is what is stored now.
    """
    known = {stored["type"]: stored for stored in before}
    result = []
    for condition in conditions:
        values = asdict(condition)
        status = str(values.pop("holds"))
        stored = known.get(condition.type)
        unchanged = stored is not None and stored["status"] == status
        since = stored["since"] if stored is not None and unchanged else now.isoformat()
        result.append({**values, "status": status, "since": since})
    return result
