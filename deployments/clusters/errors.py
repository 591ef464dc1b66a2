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
    """No answer: network, timeout, API server down or overloaded. Try again later."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the cluster asks to be left alone for, if it says so."""


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


class ClusterNoCapacity(ClusterError):
    """A quota of the cluster is used up. Something has to end, or the quota has to grow; then it works."""


class ClusterMisconfigured(ClusterError):
    """The configuration of the cluster's row cannot be used. The provider's to mend.

    `field` is the key in the configuration.
    """

    permanent = True

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
