from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deployments.clusters.port import (
    SPEC_HASH_ANNOTATION,
    ObjectRef,
    Observation,
    ObservedObject,
    ObservedPod,
)
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


POD = ObservedPod(
    uid="pod",
    name="pod",
    namespace="org",
    resource=SPEC.resource,
    revision=1,
    phase="Running",
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    owner="set",
    ends_with=(ObjectRef("apps/v1", "ReplicaSet", "org", "set"), ObjectRef("v1", "Pod", "org", "pod")),
)
RUNNING = replace(POD, revision=None, owner="job", ends_with=POD.ends_with[1:])
RUN_OF_POD = replace(RUN, revision=None, uid="job")
ENDED = ["delete ReplicaSet", "delete Pod"]

POD_CASES = [
    ("a Deployment keeps its pods", WANTED, (DEPLOYMENT, SERVICE), POD, []),
    ("so does one that is on its way out", (), (GOING,), POD, []),
    ("what has left them behind is made again", WANTED, (SERVICE,), POD, ["apply Deployment"]),
    ("or is not wanted any more", (), (), POD, ENDED),
    ("another revision keeps no pods", WANTED, (DEPLOYMENT, SERVICE), replace(POD, revision=2), ENDED),
    ("what ends by itself is left alone", (), (), replace(POD, ends_with=()), []),
    ("what ends already is left alone", (), (), replace(POD, deleting_since=GOING.deleting_since), []),
    ("a Job keeps its pods", JOB, (RUN_OF_POD,), RUNNING, []),
    ("the next Job takes none back", JOB, (RUN_OF_POD,), replace(RUNNING, owner=""), ["delete Pod"]),
    ("not even before it is there", JOB, (), RUNNING, ["apply Job", "delete Pod"]),
]


@pytest.mark.parametrize(
    ("wanted", "there", "pod", "expected"), [c[1:] for c in POD_CASES], ids=[case[0] for case in POD_CASES]
)
def test_pods_end_with_what_they_were_made_for(wanted, there, pod, expected):
    steps = plan_steps(wanted, Observation(objects=there, pods=(pod,)), unwanted="it is old")
    assert [f"{step.action} {step.ref.kind}" for step in steps] == expected


def test_it_says_what_is_created():
    steps = plan_steps(WANTED, Observation(objects=(CHANGED,)), unwanted="it is old")
    assert [(step.ref.kind, step.creates) for step in steps] == [("Deployment", False), ("Service", True)]
