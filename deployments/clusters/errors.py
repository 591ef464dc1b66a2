"""Errors of the cluster port. No exception of a client library passes this border.

One bit says whether trying again helps: `permanent`. One more says whose it is: `customer`.
"""

from __future__ import annotations


class ClusterError(Exception):
    """Something went wrong between us and a cluster."""

    permanent = False
    """True: trying the same again cannot help."""
    customer = False
    """True: the customer can mend it; the message says how."""


class ClusterUnreachable(ClusterError):
    """No answer: network, timeout, API server down. Try again later."""


class ClusterConflict(ClusterError):
    """Somebody changed the object meanwhile. Observe again, decide again."""


class ClusterForbidden(ClusterError):
    """Our service account may not do this. The provider's to mend."""

    permanent = True


class ClusterRejected(ClusterError):
    """The cluster refuses the object as it is (validation, admission). `field` names the place if known."""

    permanent = True

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
