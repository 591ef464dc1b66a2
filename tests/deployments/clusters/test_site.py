"""What a provider may say of a cluster, and what is said of a typing error."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from deployments.clusters.configuration import configuration_problem
from deployments.clusters.site import LOCAL, Site, SiteError
from marketplace.hardware.models import Cluster

NFS = {"nfs": {"server": "10.0.0.5", "path": "/exports/marketplace"}}
WHOLE = {
    "kubeconfig": "/etc/marketplace/kubeconfig",
    "context": "production",
    "installation": "marketplace",
    "image_registry": "registry.example:5000/mirror",
    "storage": NFS,
    "cache": {"hostPath": {"path": "/var/cache/marketplace"}},
    "cache_free_share": 0.05,
    "caller_namespaces": {"team": "platform"},
    "caller_cidrs": ["10.0.0.0/8", "fd00::/8"],
    "pod_security": "baseline",
    "runtime_class": "nvidia",
    "serving_priority_class": "models",
    "tuning_priority_class": "training",
}


def test_a_whole_configuration_is_read() -> None:
    assert Site.of("kubernetes", WHOLE) == Site(
        image_registry="registry.example:5000/mirror",
        storage=NFS,
        cache={"hostPath": {"path": "/var/cache/marketplace"}},
        cache_free_share=0.05,
        caller_namespaces={"team": "platform"},
        caller_cidrs=("10.0.0.0/8", "fd00::/8"),
        pod_security="baseline",
        runtime_class="nvidia",
        serving_priority_class="models",
        tuning_priority_class="training",
    )
    assert configuration_problem("kubernetes", WHOLE) == ""


def test_what_is_not_said_is_strict() -> None:
    site = Site.of("kubernetes", {})
    assert (site.pod_security, site.confines, site.caller_cidrs) == ("restricted", True, ())
    assert site.caller_namespaces == {"kubernetes.io/metadata.name": "marketplace"}


def test_a_local_cluster_confines_nothing() -> None:
    assert Site.of("local", {"root": "/srv/cluster"}) is LOCAL


@pytest.mark.parametrize(
    ("name", "pulled"),
    [
        ("marketplace/runtime-cuda:1", "registry.example/mirror/marketplace/runtime-cuda:1"),
        ("runtime", "registry.example/mirror/runtime"),
        ("ghcr.io/acme/server@sha256:ab", "ghcr.io/acme/server@sha256:ab"),
        ("localhost/server", "localhost/server"),
        ("registry:5000/server", "registry:5000/server"),
    ],
)
def test_images_that_name_no_registry_come_from_the_sites(name: str, pulled: str) -> None:
    assert Site(image_registry="registry.example/mirror").image(name) == pulled
    assert Site().image(name) == name


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"storrage": NFS}, "storrage", "is not known; there are cache, cache_free_share"),
        ({"kubeconfig": 5}, "kubeconfig", "must be text, not 5"),
        ({"installation": "my shop"}, "installation", "is not a label value"),
        ({"image_registry": "https://registry.example"}, "image_registry", "is not a registry"),
        ({"storage": "nfs"}, "storage", "must be one volume source: an object with one key of csi"),
        ({"storage": {"nfs": {}, "csi": {}}}, "storage", "must be one volume source"),
        ({"storage": {"emptyDir": {}}}, "storage", "must be one volume source"),
        ({"storage": {"nfs": {"server": "a"}}}, "storage.nfs.path", "is missing or not text"),
        ({"storage": {"nfs": []}}, "storage.nfs", "must be a JSON object"),
        ({"cache": {"hostPath": {"path": "cache"}}}, "cache.hostPath.path", "must be an absolute path"),
        ({"cache": {"hostPath": {"path": "/a/../b"}}}, "cache.hostPath.path", "without '..'"),
        ({"cache_free_share": 15}, "cache_free_share", "15 must be a part from 0 to 0.9"),
        ({"cache_free_share": "0.1"}, "cache_free_share", "'0.1' must be a part"),
        ({"cache_free_share": True}, "cache_free_share", "True must be a part"),
        ({"caller_namespaces": ["a"]}, "caller_namespaces", "must be an object of labels"),
        ({"caller_namespaces": {"a b": "c"}}, "caller_namespaces", "'a b' is not a label name"),
        ({"caller_namespaces": {"a": "b c"}}, "caller_namespaces.a", "is not a label value"),
        ({"caller_cidrs": "10.0.0.0/8"}, "caller_cidrs", "must be a list of networks"),
        ({"caller_cidrs": ["10.0.0.1/8"]}, "caller_cidrs[0]", "has host bits set"),
        ({"pod_security": "strict"}, "pod_security", "must be one of restricted, baseline, privileged"),
        ({"runtime_class": "NVIDIA 🙂"}, "runtime_class", "is not a name of a Kubernetes object"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(SiteError) as refusal:
        Site.of("kubernetes", values)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")
    assert words in str(refusal.value)


def test_a_cluster_without_storage_is_refused_where_it_is_entered() -> None:
    assert configuration_problem("kubernetes", {}).startswith("storage: is missing; it says where weights")
    assert configuration_problem("local", {}) == ""


def test_a_context_of_no_kubeconfig_is_refused_where_it_is_entered() -> None:
    problem = configuration_problem("kubernetes", {"storage": NFS, "context": "production"})
    assert problem.startswith("context 'production' needs a kubeconfig to be in")


@pytest.mark.parametrize("configuration", [{"storrage": NFS}, {}, {"storage": NFS, "kubeconfig": None}])
def test_staff_cannot_store_a_wrong_configuration(configuration: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        Cluster(slug="a", kind="kubernetes", configuration=configuration).clean()
    assert list(refusal.value.message_dict) == ["configuration"]
