"""What the API server said in each case, word for word, and what it means."""

from __future__ import annotations

import json

import pytest

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterForbidden,
    ClusterNoCapacity,
    ClusterRejected,
    ClusterUnreachable,
)
from deployments.clusters.kubernetes.failures import error_of


def failure(status, message, *, causes=(), retry_after=None, **details):
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    if causes or details:
        body["details"] = {**details, "causes": list(causes)}
    return error_of(status, json.dumps(body).encode(), action="apply it", retry_after=retry_after)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, "Unauthorized", ClusterForbidden),
        (
            403,
            'deployments.apps "a" is forbidden: User "system:serviceaccount:m:w" cannot patch resource '
            '"deployments" in API group "apps" in the namespace "org-1"',
            ClusterForbidden,
        ),
        (
            403,
            'pods "a" is forbidden: exceeded quota: marketplace, requested: requests.nvidia.com/gpu=2, '
            "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4",
            ClusterNoCapacity,
        ),
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:v1.30": privileged', ClusterRejected),
        (
            403,
            'pods "a" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
            ClusterRejected,
        ),
        (403, 'admission webhook "policy.example" denied the request: no latest tags', ClusterRejected),
        (400, 'admission webhook "policy.example" denied the request: no latest tags', ClusterRejected),
        (
            403,
            'deployments.apps "a" is forbidden: unable to create new content in namespace org-1 because it '
            "is being terminated",
            ClusterConflict,
        ),
        (409, "the object has been modified", ClusterConflict),
        (429, "too many requests", ClusterUnreachable),
        (
            500,
            'Internal error occurred: failed calling webhook "policy.example": timeout',
            ClusterUnreachable,
        ),
        (503, "apiserver is shutting down", ClusterUnreachable),
        (504, "Timeout: request did not complete within the allotted timeout", ClusterUnreachable),
    ],
)
def test_it_tells_refusals_apart(status, message, expected):
    error = failure(status, message)
    assert (type(error), str(error)) in [
        (expected, f"apply it: {message}"),
        (expected, f"apply it: {message} (the namespace is being deleted)"),
        (expected, f"apply it: the cluster does not accept our credentials: {message}"),
    ]


def test_it_names_the_field_that_is_invalid():
    error = failure(
        422,
        'Job.batch "a" is invalid: spec.template: Invalid value: …: field is immutable',
        causes=[{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "spec.template"}],
    )
    assert isinstance(error, ClusterRejected)
    assert (error.field, error.permanent) == ("spec.template", True)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (
            "failed to create typed patch object (org-1/a; apps/v1, Kind=Deployment): .spec.replics: field "
            "not declared in schema",
            "spec.replics",
        ),
        (
            "failed to create typed patch object (org-1/a; apps/v1, Kind=Deployment): .spec.replicas: "
            "expected numeric (int or float), got string",
            "spec.replicas",
        ),
        (
            "failed to convert new object (org-1/a; apps/v1, Kind=Deployment) to proper version: quantities "
            "must match the regular expression",
            "",
        ),
    ],
)
def test_a_manifest_that_fits_no_schema_is_refused_although_the_api_server_calls_it_its_own_error(
    message, field
):
    error = failure(500, message)
    assert isinstance(error, ClusterRejected)
    assert error.field == field


def test_another_object_under_the_name_is_a_conflict():
    causes = [{"field": "metadata.uid", "message": "field is immutable"}]
    assert isinstance(failure(422, "metadata.uid: Invalid value", causes=causes), ClusterConflict)


def test_a_namespace_that_is_not_there_is_a_conflict():
    error = failure(404, 'namespaces "nowhere" not found', name="nowhere", kind="namespaces")
    assert isinstance(error, ClusterConflict)
    assert str(error) == 'apply it: namespaces "nowhere" not found'


def test_it_tells_how_long_to_leave_an_overloaded_api_server_alone():
    error = failure(429, "too many requests", retry_after="7")
    assert isinstance(error, ClusterUnreachable)
    assert error.retry_after == 7.0
    assert failure(429, "too many requests", retry_after="soon").retry_after is None


def test_an_answer_that_is_no_status_is_quoted():
    error = error_of(502, b"<html>Bad Gateway</html>", action="list pods")
    assert (type(error), str(error)) == (ClusterUnreachable, "list pods: <html>Bad Gateway</html>")
    assert str(error_of(500, b"", action="list pods")) == "list pods: no reason given"
    assert str(error_of(400, b"[1]", action="list pods")) == "list pods: [1]"
