"""A configuration that cannot be used is one clear message before anything is called."""

from __future__ import annotations

import pytest
import yaml
from django.core.exceptions import ValidationError

from deployments.clusters.errors import ClusterMisconfigured, ClusterUnreachable
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.kubernetes.settings import Settings
from marketplace.hardware.configurations import check_configuration

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "prod",
    "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "robot", "user": {"token": "secret"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "one", "user": "robot"}}],
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({**KUBECONFIG, **changes}))
        return str(path)

    return write


def opened(**configuration):
    return KubernetesCluster(name="a", configuration=configuration)


def test_it_opens_without_calling_anybody(write):
    assert opened(kubeconfig=write(), context="prod").settings == Settings(
        kubeconfig=write(), context="prod", installation="marketplace"
    )


def test_a_cluster_that_does_not_answer_is_unreachable(write):
    with pytest.raises(ClusterUnreachable, match=r"^list namespaces: no answer: .*refused"):
        opened(kubeconfig=write()).observe()


@pytest.mark.parametrize(
    ("changes", "context", "field", "message"),
    [
        ({}, "staging", "context", "has no context 'staging'; it has: prod"),
        ({"current-context": ""}, "", "context", "has no current-context; name one of its contexts: prod"),
        ({"current-context": "x"}, "", "context", "its current-context 'x' is not among its contexts: prod"),
        ({"clusters": None}, "", "kubeconfig", "context 'prod' names cluster 'one'; the file has: none"),
        (
            {"clusters": [{"name": "one", "cluster": {"server": "10.0.0.1"}}]},
            "",
            "kubeconfig",
            "cluster 'one' has server '10.0.0.1'; write for example https://10.0.0.1:6443",
        ),
        ({"contexts": "prod"}, "", "context", "is not among its contexts: none"),
        ({"users": [{"name": "robot", "user": {"tokenFile": "/nowhere"}}]}, "", "kubeconfig", "/nowhere"),
    ],
)
def test_a_kubeconfig_that_names_no_cluster_says_what_it_has(write, changes, context, field, message):
    path = write(**changes)
    with pytest.raises(ClusterMisconfigured) as found:
        opened(kubeconfig=path, context=context)
    assert f"kubeconfig {path}" in str(found.value)
    assert message in str(found.value)
    assert (found.value.field, found.value.permanent) == (field, True)


def test_a_kubeconfig_that_is_not_there_or_is_none_is_named(tmp_path):
    missing, folder, text, broken, binary = (tmp_path / name for name in "abcde")
    folder.mkdir()
    text.write_text("hello")
    broken.write_text("clusters: [")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in [
        (missing, "does not exist; give the path of one that this process can read"),
        (folder, "cannot be read: Is a directory"),
        (text, "is not a kubeconfig: it holds no clusters, users and contexts"),
        (broken, "is not YAML: while parsing a flow node"),
        (binary, "is not YAML: "),
    ]:
        with pytest.raises(ClusterMisconfigured) as found:
            opened(kubeconfig=str(path))
        assert str(found.value).startswith(f"kubeconfig {path} {message}")


def test_without_a_kubeconfig_and_outside_of_a_cluster_there_is_no_account(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterMisconfigured, match="there is no service account here"):
        opened()


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"kubeconfig": 7}, "kubeconfig must be a text, not 7"),
        ({"installation": "a b"}, "installation 'a b' cannot be the value of a label"),
        ({"context": "prod"}, "context 'prod' needs a kubeconfig"),
    ],
)
def test_values_that_cannot_be_meant_are_named(configuration, message):
    with pytest.raises(ClusterMisconfigured, match=message):
        Settings.of(configuration)


def test_the_form_of_a_cluster_refuses_a_kubeconfig_that_points_nowhere(write):
    storage = {"nfs": {"server": "10.0.0.5", "path": "/exports"}}
    check_configuration("kubernetes", {"kubeconfig": write(), "storage": storage})
    with pytest.raises(ValidationError, match="kubeconfig: kubeconfig /nowhere does not exist"):
        check_configuration("kubernetes", {"kubeconfig": "/nowhere", "storage": storage})
