"""Turns a specification into Kubernetes objects, as plain dicts. Pure: the same in, the same out.

Every object carries the labels of `deployments.clusters.port` and the hash of what we wanted, so that a
list of the cluster says whether anything has to be applied. What a container needs to know beyond its
specification is in `runtimes.contract`; what it needs to know of the cluster is in
`deployments.clusters.site`. What all of an organization's objects share (namespace, quota, policies, volumes)
is in `deployments.reconcile.tenancy`.
"""

from __future__ import annotations

from deployments.clusters.port import Manifest
from deployments.clusters.site import Site
from deployments.reconcile.manifests.pods import CONTAINER, USER_ID
from deployments.reconcile.manifests.serving import disruption_budgets, service, serving_deployment
from deployments.reconcile.manifests.tuning import tuning_objects
from deployments.reconcile.manifests.workspace import workspace_manifests
from deployments.serving.spec import ServingSpec, TuningSpec

__all__ = [
    "CONTAINER",
    "USER_ID",
    "disruption_budgets",
    "service",
    "serving_deployment",
    "serving_manifests",
    "tuning_manifests",
    "workspace_manifests",
]


def serving_manifests(spec: ServingSpec, *, replicas: int, site: Site) -> tuple[Manifest, ...]:
    """Everything that one revision needs in its namespace to serve with `replicas` pods."""
    return (
        serving_deployment(spec, replicas=replicas, site=site),
        *disruption_budgets(spec, replicas=replicas),
        service(spec),
    )


def tuning_manifests(spec: TuningSpec, *, site: Site) -> tuple[Manifest, ...]:
    """Everything that a fine-tuning job needs in its namespace."""
    return tuning_objects(spec, site=site)
