from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.clusters.ownership import adopted, changed_by, edited, lost_field, own_fields
from deployments.clusters.port import ObjectRef, ObservedObject

MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "a",
        "namespace": "b",
        "labels": {"l": "1"},
        "annotations": {"marketplace/spec-hash": "h"},
    },
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"l": "1"}},
        "template": {
            "spec": {
                "nodeSelector": {},
                "containers": [
                    {
                        "name": "main",
                        "image": "x:1",
                        "ports": [{"containerPort": 80}],
                        "env": [{"name": "A", "value": ""}],
                    }
                ],
            }
        },
    },
}
OURS = {
    "f:metadata": {"f:labels": {"f:l": {}}, "f:annotations": {"f:marketplace/spec-hash": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"main"}': {
                        ".": {},
                        "f:name": {},
                        "f:image": {},
                        "f:ports": {
                            'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                        },
                        "f:env": {
                            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
                            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}},
                        },
                    }
                }
            }
        },
    },
}
ENTRY = {"manager": "marketplace", "operation": "Apply", "fieldsV1": OURS}
STATUS = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "subresource": "status",
    "fieldsV1": {"f:status": {"f:replicas": {}}, "f:metadata": {"f:annotations": {"f:x": {}}}},
}


def without(path: str):
    """Our fields without the one at the path, which is separated by blanks, and what is then empty."""

    def cut(fields, names):
        name, *rest = names
        inner = cut(fields[name], rest) if rest else {}
        kept = {key: value for key, value in fields.items() if key != name}
        return {**kept, name: inner} if inner else kept

    return cut(OURS, path.split())


def foreign(fields, *, manager="kubectl-edit", **more):
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def test_a_manifest_whose_fields_are_all_ours_has_lost_none():
    assert own_fields([STATUS, ENTRY], manager="marketplace") == OURS
    assert lost_field(MANIFEST, OURS) == ""
    assert changed_by([STATUS, ENTRY], manager="marketplace") == ""


@pytest.mark.parametrize(
    ("taken", "path"),
    [
        ("f:spec f:selector", "spec.selector"),
        ("f:metadata f:labels f:l", "metadata.labels"),
        ("f:metadata f:annotations", "metadata.annotations"),
        ('f:spec f:template f:spec f:containers k:{"name":"main"}', "spec.template"),
        (
            'f:spec f:template f:spec f:containers k:{"name":"main"} f:image',
            "spec.template.spec.containers[main].image",
        ),
        (
            'f:spec f:template f:spec f:containers k:{"name":"main"} f:env k:{"name":"A"}',
            "spec.template.spec.containers[main].env[A]",
        ),
    ],
)
def test_a_field_that_somebody_took_or_removed_is_named(taken, path):
    assert lost_field(MANIFEST, without(taken)) == path


def test_an_object_that_we_never_applied_is_not_as_wanted():
    assert own_fields([STATUS], manager="marketplace") == {}
    assert lost_field(MANIFEST, {}) == "metadata.managedFields"


def test_values_that_mean_nothing_need_no_owner():
    assert lost_field(MANIFEST, without("f:spec f:replicas")) == ""


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (foreign({"f:spec": {"f:replicas": {}}}), "kubectl-edit"),
        (foreign({"f:spec": {"f:replicas": {}}}, manager="kubectl", subresource="scale"), "kubectl"),
        (foreign({"f:data": {"f:key": {}}}), "kubectl-edit"),
        (foreign({"f:spec": {"f:template": {"f:spec": {"f:hostNetwork": {}}}}}), "kubectl-edit"),
        (foreign({"f:metadata": {"f:annotations": {"f:note": {}}}}), ""),
        (foreign({"f:spec": {"f:replicas": {}}}, subresource="status"), ""),
        (
            foreign({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {".": {}, "f:at": {}}}}}}),
            "",
        ),
        (
            foreign({"f:spec": {"f:paused": {}, "f:template": {"f:metadata": {"f:annotations": {}}}}}),
            "kubectl-edit",
        ),
    ],
)
def test_it_tells_who_else_has_a_say_in_what_the_object_is(entry, expected):
    assert changed_by([ENTRY, STATUS, entry], manager="marketplace") == expected


def test_what_others_have_added_is_taken_over_so_that_applying_removes_it():
    added = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
    entries = adopted([ENTRY, STATUS, foreign(added)], manager="marketplace")
    assert entries == [
        {**ENTRY, "fieldsV1": {**OURS, "f:spec": {**OURS["f:spec"], "f:paused": {}}}},
        STATUS,
    ]
    assert "f:paused" not in OURS["f:spec"]


def test_it_says_what_was_edited():
    seen = ObservedObject(
        ref=ObjectRef.of(MANIFEST), uid="u", resource="", revision=None, spec_hash="h", fields=OURS
    )
    assert edited(MANIFEST, seen) == ""
    assert edited(MANIFEST, replace(seen, fields=None)) == ""
    assert edited(MANIFEST, replace(seen, changed_by="kubectl-edit")) == "it was changed by kubectl-edit"
    assert (
        edited(MANIFEST, replace(seen, fields=without("f:spec f:selector")))
        == "somebody has changed or removed spec.selector"
    )
