"""What trains and ends: one Job, whose pods never share a checkpoint; over several nodes an indexed one."""

from __future__ import annotations

from typing import Any

from deployments.clusters.port import Manifest
from deployments.clusters.site import Site
from deployments.reconcile.manifests.ipujobs import ipu_job
from deployments.reconcile.manifests.objects import hashed, metadata, resource_labels
from deployments.reconcile.manifests.pods import environment, pod_template
from deployments.reconcile.names import object_name
from deployments.serving.spec import TuningSpec
from marketplace.hardware.attachments import Attachment
from runtimes import contract

HOPELESS_EXITS = (
    contract.ExitCode.BAD_INPUT,
    contract.ExitCode.WEIGHTS_MISSING,
    contract.ExitCode.WEIGHTS_CORRUPT,
    contract.ExitCode.BAD_CONFIGURATION,
)
"""The same data and settings would end the same way: a Job fails at once instead of trying again."""
SIGTERM_EXIT = 128 + 15
INTERRUPTED_EXITS = (contract.ExitCode.STOPPED, SIGTERM_EXIT)
"""Somebody stopped the container. Not a failure: it continues from its checkpoint, however often."""
INDEX_FIELD = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
DNS_PORT = 53


def tuning_objects(spec: TuningSpec, *, site: Site) -> tuple[Manifest, ...]:
    """The run: on one node a Job alone, on several also what its pods need to find and reach one another."""
    if spec.nodes == 1:
        return (tuning_job(spec, site=site),)
    reach = (_reach_one_another(spec),) if site.confines else ()
    return (_peers(spec), *reach, tuning_job(spec, site=site))


def tuning_job(spec: TuningSpec, *, site: Site) -> Manifest:
    """The training run. Restarts after failures that may pass; never two pods at once on one checkpoint."""
    name = object_name(spec.resource)
    template = pod_template(
        spec,
        site=site,
        restart_policy="Never",
        grace_seconds=spec.grace_seconds,
        container={"env": [*environment(spec, site=site), *_rendezvous(spec)]},
        # A pod's host name is then the one that its peers look up.
        pod={"subdomain": name} if spec.nodes > 1 else {},
    )
    if spec.resources.attachment is Attachment.IPUJOB:
        return ipu_job(spec, name=name, template=template, instances=1)
    return hashed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(name, spec),
            "spec": {
                **_how_many(spec),
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    # The first rule that matches decides. They hold for the init container as well.
                    "rules": [
                        {
                            "action": "FailJob",
                            "onExitCodes": {
                                "operator": "In",
                                "values": [int(code) for code in HOPELESS_EXITS],
                            },
                        },
                        {
                            "action": "Ignore",
                            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                        },
                        {
                            "action": "Ignore",
                            "onExitCodes": {
                                "operator": "In",
                                "values": [int(code) for code in INTERRUPTED_EXITS],
                            },
                        },
                    ]
                },
                "template": template,
            },
        }
    )


def _how_many(spec: TuningSpec) -> dict[str, Any]:
    pods = {"completions": spec.nodes, "parallelism": spec.nodes, "backoffLimit": spec.retries}
    return pods if spec.nodes == 1 else {**pods, "completionMode": "Indexed"}


def _rendezvous(spec: TuningSpec) -> list[dict[str, Any]]:
    """How the processes of several nodes find one another: see `contract.RENDEZVOUS_PORT`."""
    if spec.nodes == 1:
        return []
    name = object_name(spec.resource)
    return [
        {"name": "PET_MASTER_ADDR", "value": f"{name}-0.{name}"},
        {"name": "PET_MASTER_PORT", "value": str(contract.RENDEZVOUS_PORT)},
        {"name": "PET_NNODES", "value": str(spec.nodes)},
        {"name": "PET_NPROC_PER_NODE", "value": str(max(1, spec.resources.accelerator_count))},
        {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": INDEX_FIELD}}},
    ]


def _peers(spec: TuningSpec) -> Manifest:
    return hashed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(object_name(spec.resource), spec),
            "spec": {
                "clusterIP": "None",
                "selector": resource_labels(spec),
                # They wait for one another before any of them is ready.
                "publishNotReadyAddresses": True,
                "ports": [{"name": "rendezvous", "port": contract.RENDEZVOUS_PORT, "protocol": "TCP"}],
            },
        }
    )


def _reach_one_another(spec: TuningSpec) -> Manifest:
    """Collectives choose their own ports, so pods of one run reach each other on any; besides only names."""
    peers = [{"podSelector": {"matchLabels": resource_labels(spec)}}]
    names = {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")],
    }
    return hashed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(object_name(spec.resource), spec),
            "spec": {
                "podSelector": {"matchLabels": resource_labels(spec)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers}],
                "egress": [{"to": peers}, names],
            },
        }
    )
