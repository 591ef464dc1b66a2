"""A workspace: one pod with a notebook server, its address, and the volume that outlives the pod. Pure.

The server gets no token but its SHA-256: whoever may read the cluster's objects cannot open a workspace, and
we need no right to write secrets. A token that is replaced changes the pod, which starts again with it.
"""

from __future__ import annotations

from typing import Any

from deployments.clusters.port import Manifest
from deployments.clusters.site import Site
from deployments.reconcile.manifests.ipujobs import ipu_job
from deployments.reconcile.manifests.objects import hashed, metadata, resource_labels
from deployments.reconcile.manifests.pods import SCRATCH_PATH, environment, pod_template
from deployments.reconcile.names import object_name, revision_name
from deployments.serving.spec import WorkspaceSpec, workspace_path
from marketplace.hardware.attachments import Attachment
from runtimes import contract

FOLDER = "/workspace"
"""Where the volume is: notebooks, and the home of whoever works there."""
START_PERIOD_SECONDS = 2
START_SECONDS = 600
"""Images of frameworks are large, but a notebook server starts in seconds once one is there."""


def workspace_manifests(
    spec: WorkspaceSpec, *, runs: bool, token_number: int, token_hash: str, site: Site
) -> tuple[Manifest, ...]:
    """Everything that a workspace needs in its namespace; only its volume unless it `runs`.

    `token_hash` is the SHA-256 of the token with the number `token_number`, as 64 hexadecimal digits.
    """
    claim = _claim(spec, site=site)
    if not runs:
        return (claim,)
    server = _server(spec, token_number=token_number, token_hash=token_hash, site=site)
    return (claim, server, _service(spec))


def _claim(spec: WorkspaceSpec, *, site: Site) -> Manifest:
    wish: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{spec.volume_gib}Gi"}},
    }
    if site.workspace_storage_class:
        wish["storageClassName"] = site.workspace_storage_class
    return hashed(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(object_name(spec.resource), spec),
            "spec": wish,
        }
    )


def _server(spec: WorkspaceSpec, *, token_number: int, token_hash: str, site: Site) -> Manifest:
    template = pod_template(
        spec,
        site=site,
        restart_policy="Always",
        grace_seconds=spec.grace_seconds,
        container=_container(spec, token_hash=token_hash, site=site),
        claims={object_name(spec.resource): FOLDER},
    )
    if spec.resources.attachment is Attachment.IPUJOB:
        # What has been started stays as it is, so another token is another object.
        name = revision_name(spec.resource, revision=token_number)
        return ipu_job(spec, name=name, template=template, instances=1)
    return hashed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(object_name(spec.resource), spec),
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": resource_labels(spec)},
                # The volume can be at one node only, and two servers on the same notebooks would be one too
                # many.
                "strategy": {"type": "Recreate"},
                "template": template,
            },
        }
    )


def _service(spec: WorkspaceSpec) -> Manifest:
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


def _container(spec: WorkspaceSpec, *, token_hash: str, site: Site) -> dict[str, Any]:
    path = workspace_path(spec.resource)
    own = {
        "HOME": FOLDER,
        "WORKSPACE_FOLDER": FOLDER,
        # Sockets and keys of kernels belong to the pod and not to the volume.
        "JUPYTER_RUNTIME_DIR": f"{SCRATCH_PATH}/jupyter",
        "WORKSPACE_ID": spec.resource,
        "WORKSPACE_PATH": path,
        "WORKSPACE_PORT": str(contract.PORT),
        "WORKSPACE_TOKEN_SHA256": token_hash,
    }
    given = [item for item in environment(spec, site=site) if item["name"] not in own]
    # Answers without a token, and says nothing but the server's version.
    alive = {"httpGet": {"path": f"{path}api", "port": "http"}}
    return {
        "env": [
            *given,
            *({"name": name, "value": value} for name, value in sorted(own.items())),
            {"name": "WORKSPACE_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"name": "http", "containerPort": contract.PORT, "protocol": "TCP"}],
        "startupProbe": {
            **alive,
            "periodSeconds": START_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": START_SECONDS // START_PERIOD_SECONDS,
        },
        "readinessProbe": {**alive, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # Patient: nobody's unsaved work may be lost because a cell keeps the machine busy.
        "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 12},
    }
