"""`graphcore.ai/v1alpha1` IPUJob: how pods on IPU-PODs get their partition of IPUs.

The operator asks the V-IPU controller for a partition for each job instance and starts one worker pod with
it, so the IPUs are asked for on the object and are no resource of the container. Fields and rules:
https://docs.graphcore.ai/projects/kubernetes-user-guide/en/latest/creating-ipujob.html; that names beyond 36
characters fail to get their IPUs, and that a pod deleted alone comes back:
https://epcced.github.io/eidf-docs/services/graphcore/faq/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.clusters.port import Manifest
from deployments.reconcile.manifests.objects import hashed, metadata
from deployments.serving.spec import Spec

API_VERSION = "graphcore.ai/v1alpha1"
KIND = "IPUJob"


def ipu_job(spec: Spec, *, name: str, template: Mapping[str, Any], instances: int) -> Manifest:
    """So many workers, each with a partition of as many IPUs as the flavor has."""
    return hashed(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(name, spec),
            "spec": {
                "jobInstances": instances,
                # Text in the resource's schema, although it counts.
                "ipusPerJobInstance": str(spec.resources.accelerator_count),
                "modelReplicasPerWorker": "1",
                "workers": {"template": template},
            },
        }
    )
