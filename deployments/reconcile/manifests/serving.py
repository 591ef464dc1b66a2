"""What answers requests: the pods of one revision, their address, and how many may be taken away at once."""

from __future__ import annotations

from typing import Any

from deployments.clusters.port import Manifest
from deployments.clusters.site import Site
from deployments.reconcile.manifests.ipujobs import ipu_job
from deployments.reconcile.manifests.objects import hashed, metadata, resource_labels
from deployments.reconcile.manifests.pods import environment, pod_template
from deployments.reconcile.names import object_name, revision_name
from deployments.serving.spec import ServingSpec
from marketplace.hardware.attachments import Attachment
from runtimes import contract

START_PERIOD_SECONDS = 2
START_SECONDS = 1800
"""A start may load hundreds of gigabytes. The kubelet restarts a container that is not ready by then."""
LEAVING_SECONDS = 5
"""From the wish to stop to SIGTERM. Meanwhile the pod leaves the endpoints and the gateways' tables, so that
no request arrives at a server that has begun to drain."""
LOST_NODE_SECONDS = 20
"""How long to hope for a node that does not answer before its replicas start elsewhere. Kubernetes waits
300 s, which callers would spend without a model; a replica that comes back is one too many for a moment."""


def serving_deployment(spec: ServingSpec, *, replicas: int, site: Site) -> Manifest:
    """The pods of one revision: a Deployment, or what else the accelerators are asked for with.

    One object per revision: which revision serves is decided by the reconciler, not by a rolling update.
    """
    template = pod_template(
        spec,
        site=site,
        restart_policy="Always",
        grace_seconds=spec.grace_seconds + LEAVING_SECONDS,
        container=_serving_container(spec, site=site),
        pod={
            "topologySpreadConstraints": _spread(spec),
            "tolerations": [*map(dict, spec.resources.tolerations), *_patience_with_nodes()],
        },
    )
    name = revision_name(spec.resource, revision=spec.revision)
    if spec.resources.attachment is Attachment.IPUJOB:
        return ipu_job(spec, name=name, template=template, instances=replicas)
    return hashed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(name, spec),
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": resource_labels(spec)},
                # Within a revision only we change the template, when a new release of ours words it
                # differently. No request may fail for that.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        }
    )


def _patience_with_nodes() -> list[dict[str, Any]]:
    return [
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_SECONDS,
        }
        for condition in ("not-ready", "unreachable")
    ]


def disruption_budgets(spec: ServingSpec, *, replicas: int) -> tuple[Manifest, ...]:
    """Lets nodes be drained one replica at a time. A single one has none: it would block the drain for
    good."""
    if replicas < 2:
        return ()
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(revision_name(spec.resource, revision=spec.revision), spec),
        "spec": {
            # A number of pods that must stay, because how many there should be is not known of every owner:
            # an IPUJob has no scale subresource to ask.
            "minAvailable": replicas - 1,
            "selector": {"matchLabels": resource_labels(spec)},
            # Replicas that do not serve anyway must not hold a node back.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
    return (hashed(budget),)


def service(spec: ServingSpec) -> Manifest:
    """The address of a deployment inside the cluster: the ready pods of the revision `spec`."""
    return hashed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(object_name(spec.resource), spec),
            "spec": {
                "type": "ClusterIP",
                "selector": resource_labels(spec),
                "ports": [{"name": "http", "port": contract.PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def _spread(spec: ServingSpec) -> list[dict[str, Any]]:
    # The template is the same for any number of replicas: scaling must not restart those that serve.
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            # Two replicas on one node are better than one replica.
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": resource_labels(spec)},
        }
    ]


def _serving_container(spec: ServingSpec, *, site: Site) -> dict[str, Any]:
    # Where to listen is the cluster's to say, whatever the specification was built with; and a server knows
    # whose it is, so that it refuses calls that still go to the pod which had its address before.
    own = ("RUNTIME_HOST", "RUNTIME_PORT", "RUNTIME_RESOURCE")
    given = [item for item in environment(spec, site=site) if item["name"] not in own]
    return {
        "env": [
            *given,
            {"name": "RUNTIME_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "RUNTIME_PORT", "value": str(contract.PORT)},
            {"name": "RUNTIME_RESOURCE", "value": spec.resource},
        ],
        "ports": [{"name": "http", "containerPort": contract.PORT, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
        # Liveness and readiness begin once the startup probe has passed.
        "startupProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "http"},
            "periodSeconds": START_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": START_SECONDS // START_PERIOD_SECONDS,
        },
        "readinessProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "http"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        # Patient: a busy model must not be killed for being slow to answer.
        "livenessProbe": {
            "httpGet": {"path": contract.LIVE_PATH, "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }
