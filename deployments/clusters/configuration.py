"""What is wrong with a cluster's configuration: asked by every form and file that stores one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.clusters.errors import ClusterMisconfigured
from deployments.clusters.kubernetes.settings import Settings
from deployments.clusters.site import Site, SiteError


def configuration_problem(kind: str, configuration: Mapping[str, Any]) -> str:
    """What to say before it is stored, naming the field; empty if it can be used."""
    try:
        site = Site.of(kind, configuration)
        if kind == "kubernetes":
            Settings.of(configuration)
    except (SiteError, ClusterMisconfigured) as error:
        return str(error)
    if site.confines and site.storage is None:
        example = '{"nfs": {"server": "10.0.0.5", "path": "/exports/marketplace"}}'
        return f"storage: is missing; it says where weights and datasets lie, for example {example}"
    return ""
