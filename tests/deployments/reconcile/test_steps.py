from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deployments.clusters.port import SPEC_HASH_ANNOTATION, ObjectRef, Observation, ObservedObject
from deployments.clusters.site import LOCAL
from deployments.reconcile.manifests import serving_manifests, tuning_manifests
from deployments.reconcile.steps import plan_steps
from deployments.serving.spec import Resources, ServingSpec, TuningSpec

RESOURCES = Resources(cpu_millicores=1000, memory_bytes=2**30)
SPEC = ServingSpec(
    resource="dep_01jz4m8k3v9x2c5n7q0r1s6t8w",
    organization="org_01jz4m8k3v9x2c5n7q0r1s6t8w",
    revision=1,
    image="image:1",
    environment={},
    mounts=(),
    resources=RESOURCES,
)
TUNING = TuningSpec(
    resource="ftj_01jz4m8k3v9x2c5n7q0r1s6t8w",
    organization=SPEC.organization,
    image="image:1",
    environment={},
    mounts=(),
    resources=RESOURCES,
)
WANTED = serving_manifests(SPEC, replicas=1, site=LOCAL)
JOB = tuning_manifests(TUNING, site=LOCAL)


def seen(manifest):
    return ObservedObject(
        ref=ObjectRef.of(manifest),
        uid="1",
        resource=SPEC.resource,
        revision=1,
        spec_hash=manifest["metadata"]["annotations"][SPEC_HASH_ANNOTATION],
    )


DEPLOYMENT, SERVICE = (seen(manifest) for manifest in WANTED)
RUN = seen(JOB[0])
CHANGED = replace(DEPLOYMENT, spec_hash="another")
GOING = replace(DEPLOYMENT, deleting_since=datetime(2026, 3, 1, tzinfo=UTC))
OLD = replace(DEPLOYMENT, ref=replace(DEPLOYMENT.ref, name="old"))

CASES = [
    (
        "nothing is there",
        WANTED,
        (),
        ["apply Deployment: it is not there", "apply Service: it is not there"],
    ),
    ("all is as wanted", WANTED, (DEPLOYMENT, SERVICE), []),
    ("one differs", WANTED, (CHANGED, SERVICE), ["apply Deployment: it is not as wanted"]),
    ("one is on its way out", WANTED, (GOING, SERVICE), []),
    ("one is not wanted", WANTED, (DEPLOYMENT, SERVICE, OLD), ["delete Deployment: it is old"]),
    (
        "the new is there before the old goes",
        WANTED,
        (CHANGED, SERVICE, OLD),
        ["apply Deployment: it is not as wanted", "delete Deployment: it is old"],
    ),
    (
        "nothing is wanted",
        (),
        (DEPLOYMENT, SERVICE),
        ["delete Deployment: it is old", "delete Service: it is old"],
    ),
    ("what goes already is not asked again", (), (GOING,), []),
    ("a job that differs runs to its end", JOB, (replace(RUN, spec_hash="another"),), []),
]


@pytest.mark.parametrize(
    ("wanted", "there", "expected"), [c[1:] for c in CASES], ids=[case[0] for case in CASES]
)
def test_it_plans(wanted, there, expected):
    steps = plan_steps(wanted, Observation(objects=there), unwanted="it is old")
    assert [f"{step.action} {step.ref.kind}: {step.reason}" for step in steps] == expected


def test_it_says_what_is_created():
    steps = plan_steps(WANTED, Observation(objects=(CHANGED,)), unwanted="it is old")
    assert [(step.ref.kind, step.creates) for step in steps] == [("Deployment", False), ("Service", True)]
