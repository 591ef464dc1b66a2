"""A cluster's errors in the customer's words.

Their own words are for the log: they name hosts, paths and accounts of the provider. The customer is told a
fixed sentence and an incident, under which the log has the rest. Pure.
"""

from __future__ import annotations

import re
from hashlib import sha256

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterError,
    ClusterForbidden,
    ClusterMisconfigured,
    ClusterNoCapacity,
    ClusterRejected,
    ClusterUnreachable,
)
from deployments.reconcile.conditions import Problem
from deployments.reconcile.scheduling import read_quota

_VARYING = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)
"""What differs between two tellings of one error: addresses of objects, seconds, versions, ports."""

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]]{0,119}")
"""The place of a field in an object. A webhook may name anything as one."""


def incident_of(error: ClusterError) -> str:
    """Eight characters that find the error in the log. The same error has the same ones at every look, so
    that a row which tells of it is not written again."""
    told = f"{type(error).__name__}: {_VARYING.sub('#', str(error))}"
    return sha256(told.encode("utf-8", "replace")).hexdigest()[:8]


def problem_of(error: ClusterError) -> Problem:
    """What keeps the cluster from being as wanted, without what only the provider may know."""
    reason, sentence = _told(error)
    return Problem(reason=reason, message=f"{sentence} (incident {incident_of(error)})")


def _told(error: ClusterError) -> tuple[str, str]:
    """The reason, and the sentence for people."""
    match error:
        case ClusterRejected():
            # Whatever policies and webhooks say stands in the error; of theirs only the place is told.
            where = f" The field is {error.field}." if _FIELD.fullmatch(error.field) else ""
            return "Rejected", f"The cluster does not take this as it is.{where}"
        case ClusterForbidden():
            return "Forbidden", "We are not allowed to do this on the cluster. This is ours to mend."
        case ClusterUnreachable():
            return "Unreachable", "The cluster does not answer. We try again; what runs there goes on."
        case ClusterNoCapacity():
            excess = "".join(
                f" {it.resource}: {it.requested} asked for, {it.used} of {it.limited} used."
                for it in read_quota(str(error))
            )
            return (
                "NoCapacity",
                f"A quota of the cluster is used up. It goes on when there is room again.{excess}",
            )
        case ClusterMisconfigured():
            return "Misconfigured", "The cluster is set up wrongly. This is ours to mend."
        case ClusterConflict():
            return "Conflict", "Somebody else changes the same objects. We look again."
        case _:
            return "ClusterError", "The cluster cannot do this now. We try again."
