"""What the configuration of a cluster's row says about reaching it, checked before anything is called. Pure.

The parts of the configuration that say how workloads are built (images, storage) belong to others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from deployments.clusters.errors import ClusterMisconfigured

INSTALLATION = "marketplace"
"""Of an installation that has the cluster to itself."""

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the cluster is, and which of its objects are ours."""

    kubeconfig: str = ""
    """Path of a kubeconfig; empty: the service account of the pod that we run in."""
    context: str = ""
    """A context of the kubeconfig; empty: its current one."""
    installation: str = INSTALLATION
    """Value of the label that every object of ours carries, so that installations can share a cluster."""

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Self:
        """Raises ClusterMisconfigured, naming the key, when a value cannot be meant so."""
        for key in ("kubeconfig", "context", "installation"):
            value = configuration.get(key, "")
            if not isinstance(value, str):
                raise ClusterMisconfigured(
                    f'{key} must be a text, not {value!r}; for example {{"{key}": "{_EXAMPLES[key]}"}}',
                    field=key,
                )
        settings = cls(
            kubeconfig=configuration.get("kubeconfig", ""),
            context=configuration.get("context", ""),
            installation=configuration.get("installation") or INSTALLATION,
        )
        if not _LABEL_VALUE.fullmatch(settings.installation):
            raise ClusterMisconfigured(
                f"installation {settings.installation!r} cannot be the value of a label: write up to 63 "
                "letters, digits, '-', '_' and '.', with a letter or digit at both ends",
                field="installation",
            )
        if settings.context and not settings.kubeconfig:
            raise ClusterMisconfigured(
                f"context {settings.context!r} needs a kubeconfig to be in: give its path, or leave context "
                "out to use the pod's service account",
                field="context",
            )
        return settings


_EXAMPLES = {
    "kubeconfig": "/etc/marketplace/kubeconfig",
    "context": "production",
    "installation": INSTALLATION,
}
