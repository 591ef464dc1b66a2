"""Whose objects those with an installation's label are: the claim that a database lays to them.

The label alone does not say. Two installations that were given the same one would each take the other's
objects for leftovers of its own and delete them. So the first that comes claims the label on the cluster,
with the identity of its database, and any other is refused until it has a label of its own.

The claim is a namespace without content, since namespaces are what our account may make anyway. It is applied
without force by a field manager named after the database: the API server itself refuses the second claim, in
one call, however many come at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from deployments.clusters.errors import ClusterConflict, ClusterMisconfigured
from deployments.clusters.port import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, Manifest

CLAIMED_LABEL = "marketplace/claimed-installation"
"""Not the installation's own label: what carries that is observed, compared and removed with the rest."""
DATABASE_ANNOTATION = "marketplace/database"
REMEMBERED_SECONDS = 60.0
"""How long a claim is taken to hold: so long after its removal another installation may be in our way."""


def claim_manifest(*, installation: str, database: str) -> Manifest:
    """The namespace that says which database the objects of an installation belong to."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            # A label's value may have capitals and dots, a namespace's name may not.
            "name": f"marketplace-claim-{sha256(installation.encode()).hexdigest()[:12]}",
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, CLAIMED_LABEL: installation},
            "annotations": {DATABASE_ANNOTATION: database},
        },
    }


@dataclass
class Claim:
    """One database's claim to one installation's objects on one cluster. Safe for threads."""

    installation: str
    database: str
    """Identity of the database; empty: nothing is claimed, as by a tool that has none."""
    apply: Callable[[Manifest, str], object]
    """Applies a manifest as a field manager, without force; raises ClusterConflict if another has it."""
    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self) -> None:
        """Makes sure that the objects are ours. Raises ClusterMisconfigured if they are another's."""
        if not self.database or time.monotonic() < self._until:
            return
        with self._lock:
            if time.monotonic() < self._until:
                return
            manifest = claim_manifest(installation=self.installation, database=self.database)
            try:
                self.apply(manifest, f"{FIELD_MANAGER}-{self.database}")
            except ClusterConflict as error:
                raise ClusterMisconfigured(
                    f"another installation with the label {self.installation!r} uses this cluster: give each "
                    "its own `installation` in the cluster's configuration. If there is no other any more, "
                    f"delete its claim: kubectl delete namespace {manifest['metadata']['name']} ({error})",
                    field="installation",
                ) from error
            self._until = time.monotonic() + REMEMBERED_SECONDS
