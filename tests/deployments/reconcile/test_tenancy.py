"""What an organization's namespace holds, as values."""

from __future__ import annotations

from typing import Any

from deployments.clusters.site import LOCAL, Site
from deployments.reconcile.tenancy import tenancy_manifests
from marketplace.hardware.attachments import Attachment

ORGANIZATION = "org_01jz4m8k3v9x2c5n7q0r1s6t8w"
NAMESPACE = "org-01jz4m8k3v9x2c5n7q0r1s6t8w"
OURS = {"app.kubernetes.io/managed-by": "marketplace"}
SITE = Site(
    storage={"nfs": {"server": "storage.example", "path": "/exports"}},
    cache={"hostPath": {"path": "/var/cache/marketplace"}},
    caller_namespaces={"kubernetes.io/metadata.name": "control"},
    caller_cidrs=("10.1.0.0/16",),
)


def manifests(
    *,
    attachment: Attachment = Attachment.DEVICE_PLUGIN,
    limits: dict[str, int] | None = None,
    site: Site = SITE,
) -> dict[str, dict[str, Any]]:
    """By kind and name, without the hash."""
    found = tenancy_manifests(ORGANIZATION, attachment=attachment, limits=limits or {}, site=site)
    return {
        f"{it['kind']} {it['metadata']['name']}": {
            **it,
            "metadata": {name: value for name, value in it["metadata"].items() if name != "annotations"},
        }
        for it in found
    }


def inside(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": OURS}


def test_a_namespace_is_closed_limited_and_has_its_volumes() -> None:
    claim_ref = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE}
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    retained = {"capacity": {"storage": "1Ti"}, "persistentVolumeReclaimPolicy": "Retain"}
    amounts = {"cpu": "1", "memory": "1Gi"}
    assert manifests(limits={"nvidia.com/gpu": 8, "cpu": 100}) == {
        f"Namespace {NAMESPACE}": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": OURS
                | {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "v1.30",
                },
            },
        },
        "NetworkPolicy closed": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": inside("closed"),
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
        "NetworkPolicy callers": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": inside("callers"),
            "spec": {
                "podSelector": {"matchExpressions": [{"key": "marketplace/resource", "operator": "Exists"}]},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": "control"}
                                }
                            },
                            {"ipBlock": {"cidr": "10.1.0.0/16"}},
                        ],
                        "ports": [{"protocol": "TCP", "port": 8000}],
                    }
                ],
            },
        },
        "LimitRange marketplace": {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": inside("marketplace"),
            "spec": {"limits": [{"type": "Container", "default": amounts, "defaultRequest": amounts}]},
        },
        "ResourceQuota marketplace": {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": inside("marketplace"),
            "spec": {
                "hard": {
                    "services.loadbalancers": "0",
                    "services.nodeports": "0",
                    "requests.cpu": "200",
                    "requests.nvidia.com/gpu": "16",
                }
            },
        },
        f"PersistentVolume {NAMESPACE}-storage": {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{NAMESPACE}-storage", "labels": OURS},
            "spec": {
                **shared,
                **retained,
                "claimRef": claim_ref | {"name": "marketplace-storage"},
                "nfs": {"server": "storage.example", "path": "/exports"},
            },
        },
        "PersistentVolumeClaim marketplace-storage": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": inside("marketplace-storage"),
            "spec": {
                **shared,
                "volumeName": f"{NAMESPACE}-storage",
                "resources": {"requests": {"storage": "1Ti"}},
            },
        },
        f"PersistentVolume {NAMESPACE}-cache": {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{NAMESPACE}-cache", "labels": OURS},
            "spec": {
                **shared,
                **retained,
                "claimRef": claim_ref | {"name": "marketplace-cache"},
                "hostPath": {"path": "/var/cache/marketplace"},
            },
        },
        "PersistentVolumeClaim marketplace-cache": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": inside("marketplace-cache"),
            "spec": {
                **shared,
                "volumeName": f"{NAMESPACE}-cache",
                "resources": {"requests": {"storage": "1Ti"}},
            },
        },
    }


def test_nobody_may_call_where_no_caller_is_named() -> None:
    closed = manifests(site=Site(caller_namespaces={}))["NetworkPolicy callers"]
    assert closed["spec"]["ingress"] == []


def test_pods_of_graphcores_operator_get_a_namespace_of_their_own() -> None:
    found = manifests(attachment=Attachment.IPUJOB)
    labels = found[f"Namespace {NAMESPACE}-ipu"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert f"PersistentVolume {NAMESPACE}-ipu-storage" in found


def test_one_machine_confines_nothing() -> None:
    (namespace,) = manifests(site=LOCAL).values()
    assert namespace["metadata"] == {"name": NAMESPACE, "labels": OURS}
