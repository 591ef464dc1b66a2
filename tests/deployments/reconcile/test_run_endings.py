"""When a training run has ended, by what the cluster shows of its object and its pods."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from deployments.clusters.port import ObjectRef, Observation, ObservedObject, ObservedPod
from deployments.reconcile.status import run_failed, run_succeeded
from tests.deployments.reconcile.workloads import World

POD = ObservedPod(
    uid="1",
    name="pod",
    namespace="org",
    resource="ftj_1",
    revision=None,
    phase="Running",
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
)
DONE = replace(POD, phase="Succeeded")
BROKEN = replace(POD, phase="Failed")
JOB = ("batch/v1", "Job")
IPU_JOB = ("graphcore.ai/v1alpha1", "IPUJob")


def seen(kind: tuple[str, str], *pods: ObservedPod, **status: Any) -> Observation:
    ref = ObjectRef(*kind, "org", "ftj-1")
    item = ObservedObject(ref=ref, uid="2", resource="ftj_1", revision=None, spec_hash="h", status=status)
    return Observation(objects=(item,), pods=pods)


FAILED = {"conditions": [{"type": "Failed", "status": "True"}]}
CASES = [
    ("a job runs", seen(JOB, POD), 1, (False, False)),
    ("its pod is done", seen(JOB, DONE), 1, (True, False)),
    ("its pod broke and is tried again", seen(JOB, BROKEN, POD), 1, (False, False)),
    ("it is given up", seen(JOB, BROKEN, **FAILED), 1, (False, True)),
    ("one of four nodes is done", seen(JOB, DONE, POD, POD, POD, succeeded=1), 4, (False, False)),
    ("all of four are", seen(JOB, DONE, DONE, DONE, DONE), 4, (True, False)),
    ("all of four are, and their pods are gone", seen(JOB, succeeded=4), 4, (True, False)),
    ("an IPUJob runs", seen(IPU_JOB, POD), 1, (False, False)),
    ("its worker is done", seen(IPU_JOB, DONE), 1, (True, False)),
    ("its worker broke: nobody tries again", seen(IPU_JOB, BROKEN), 1, (False, True)),
]


@pytest.mark.parametrize(
    ("what", "nodes", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_run_has_ended(what: Observation, nodes: int, expected: tuple[bool, bool]) -> None:
    assert (run_succeeded(what, nodes=nodes), run_failed(what)) == expected


@pytest.mark.django_db(transaction=True)
def test_a_run_finds_the_folder_that_it_writes_into(world: World) -> None:
    job = world.create_job()
    folder = Path(settings.STORAGE_ROOT) / "outputs" / job.public_id
    shutil.rmtree(folder)
    world.reconcile(job)
    assert folder.is_dir()
    assert world.cluster.objects(job.public_id) != []
