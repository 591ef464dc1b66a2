"""Manifests that Kubernetes would refuse are refused, with the field."""

from __future__ import annotations

from copy import deepcopy

import pytest

from deployments.clusters.errors import ClusterRejected
from deployments.clusters.validation import validate
from tests.deployments.clusters import manifests

POD = "spec.template.spec"
MAIN = f"{POD}.containers[0]"
GRACE = f"{POD}.terminationGracePeriodSeconds"
REMOVED = object()


def changed(manifest, path, value):
    """A copy of the manifest with another value at the path ("a.b[0].c")."""
    manifest = deepcopy(manifest)
    place = manifest
    *parents, last = [
        int(part) if part.isdigit() else part for part in path.replace("[", ".").replace("]", "").split(".")
    ]
    for part in parents:
        place = place[part]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return manifest


@pytest.mark.parametrize(
    "manifest",
    [manifests.namespace(), manifests.deployment(), manifests.job(), manifests.service()],
    ids=lambda manifest: manifest["kind"],
)
def test_it_accepts_what_the_reconciler_writes(manifest):
    validate(manifest)


def test_it_accepts_numbers_as_quantities():
    validate(changed(manifests.deployment(), f"{MAIN}.resources", {"limits": {"cpu": 2, "memory": 2**30}}))


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("kind", "Pod", "kind", "no matches for kind"),
        ("apiVersion", "apps/v2", "kind", "no matches for kind"),
        ("metadata", REMOVED, "metadata", "Required value"),
        ("metadata.name", REMOVED, "metadata.name", "Required value"),
        ("metadata.name", "Dep_One", "metadata.name", "lower case letters"),
        ("metadata.name", "modèle-🚀", "metadata.name", "lower case letters"),
        ("metadata.name", "x" * 64, "metadata.name", "no more than 63 characters"),
        ("metadata.namespace", REMOVED, "metadata.namespace", "Required value"),
        ("metadata.namespace", "..", "metadata.namespace", "lower case letters"),
        ("metadata.labels.tier", "a/b", "metadata.labels.tier", "a label value is"),
        ("metadata.labels.tier", "x" * 64, "metadata.labels.tier", "a label value is"),
        ("metadata.labels.-x", "y", "metadata.labels", "not a label name"),
        ("spec", REMOVED, "spec", "Required value"),
        ("spec.replics", 2, "spec.replics", "unknown field"),
        ("spec.replicas", "two", "spec.replicas", "valid integer"),
        ("spec.replicas", -1, "spec.replicas", "0 or more"),
        ("spec.selector", REMOVED, "spec.selector", "Required value"),
        ("spec.selector.matchLabels.a", "b", "spec.template.metadata.labels", "does not match"),
        (f"{POD}.restartPolicy", "Never", f"{POD}.restartPolicy", "Unsupported value"),
        (f"{POD}.containers", [], f"{POD}.containers", "Required value"),
        (f"{POD}.initContainers", [{"name": "x", "image": "y"}], f"{POD}.initContainers", "no init"),
        (GRACE, -1, GRACE, "0 or more"),
        (f"{MAIN}.name", "Main", f"{MAIN}.name", "lower case letters"),
        (f"{MAIN}.image", "", f"{MAIN}.image", "Required value"),
        (f"{MAIN}.imag", "x", f"{MAIN}.imag", "unknown field"),
        (f"{MAIN}.env[0].name", "a b", f"{MAIN}.env[0].name", "Invalid value"),
        (f"{MAIN}.ports[0].containerPort", 70000, f"{MAIN}.ports[0].containerPort", "65535"),
        (f"{MAIN}.resources.requests.cpu", "lots", f"{MAIN}.resources.requests.cpu", "not a quantity"),
        (f"{MAIN}.resources.requests.cpu", "-1", f"{MAIN}.resources.requests.cpu", "0 or more"),
        (f"{MAIN}.resources.requests.cpu", "9", f"{MAIN}.resources.requests.cpu", "at most the cpu limit"),
        (f"{MAIN}.readinessProbe.httpGet", REMOVED, f"{MAIN}.readinessProbe", "exactly one handler"),
        (f"{MAIN}.readinessProbe.periodSeconds", 0, f"{MAIN}.readinessProbe.periodSeconds", "1 or more"),
        (f"{MAIN}.volumeMounts", [{"name": "x", "mountPath": "/x"}], f"{MAIN}.volumeMounts[0].name", "Not"),
        (f"{POD}.volumes", [{"name": "x"}], f"{POD}.volumes[0]", "exactly one volume type"),
    ],
)  # fmt: skip
def test_it_refuses(path, value, field, message):
    with pytest.raises(ClusterRejected, match=message) as refused:
        validate(changed(manifests.deployment(), path, value))
    assert refused.value.field == field


@pytest.mark.parametrize("path", ["/models", "../secrets", "models/../../x"])
def test_it_refuses_a_sub_path_that_leaves_the_volume(path):
    manifest = changed(manifests.deployment(), f"{POD}.volumes", [{"name": "x", "emptyDir": {}}])
    mounts = [{"name": "x", "mountPath": "/x", "subPath": path}]
    with pytest.raises(ClusterRejected) as refused:
        validate(changed(manifest, f"{MAIN}.volumeMounts", mounts))
    assert refused.value.field == f"{MAIN}.volumeMounts[0].subPath"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.completions", 2, "spec.completions"),
        ("spec.backoffLimit", -1, "spec.backoffLimit"),
        (f"{POD}.restartPolicy", "Always", f"{POD}.restartPolicy"),
        (f"{POD}.restartPolicy", "OnFailure", f"{POD}.restartPolicy"),
        ("spec.podFailurePolicy.rules[0].action", "Retry", "spec.podFailurePolicy.rules[0].action"),
        ("spec.podFailurePolicy.rules[0].onExitCodes.values", [0],
         "spec.podFailurePolicy.rules[0].onExitCodes.values"),
    ],
)  # fmt: skip
def test_it_refuses_a_job(path, value, field):
    with pytest.raises(ClusterRejected) as refused:
        validate(changed(manifests.job(), path, value))
    assert refused.value.field == field


def test_it_refuses_a_service_without_ports():
    with pytest.raises(ClusterRejected) as refused:
        validate(changed(manifests.service(), "spec.ports", []))
    assert refused.value.field == "spec.ports"
