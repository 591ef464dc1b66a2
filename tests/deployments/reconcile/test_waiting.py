from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deployments.clusters.port import ObservedPod
from deployments.reconcile.waiting import Waiting, waiting_for

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
FETCHING = ObservedPod(
    uid="u",
    name="p",
    namespace="n",
    resource="dep_1",
    revision=1,
    phase="Pending",
    created_at=NOW,
    scheduled_at=NOW,
    node="gpu-1",
    init_container="weights",
)


def test_a_pod_whose_init_container_runs_waits_for_its_weights():
    assert waiting_for(FETCHING) == Waiting(
        rank=10, reason="FetchingWeights", message="The weights are on their way to gpu-1."
    )


@pytest.mark.parametrize(
    ("exit_code", "restarts", "reason", "is_hopeless", "told"),
    [
        (76, 0, "WeightsCorrupt", True, "will be started again, last with exit code 76"),
        (66, 3, "WeightsMissing", True, "was started again 3 times, last with exit code 66"),
        (73, 1, "WeightsNoSpace", False, "was started again once, last with exit code 73"),
        (73, 12, "WeightsNoSpace", False, "was started again 12 times, last with exit code 73"),
        (70, 1, "InternalError", False, "was started again once, last with exit code 70"),
        (70, 5, "InternalError", True, "was started again 5 times, last with exit code 70"),
    ],
)
def test_it_says_why_the_weights_do_not_come_and_whether_they_may(
    exit_code: int, restarts: int, reason: str, is_hopeless: bool, told: str
):
    numbers = "80 GiB are needed, but 3 GiB are free"
    pod = replace(
        FETCHING, exit_code=exit_code, restarts=restarts, reason="CrashLoopBackOff", message=numbers
    )
    waiting = waiting_for(pod)
    assert waiting is not None
    assert (waiting.reason, waiting.is_hopeless) == (reason, is_hopeless)
    assert waiting.message.startswith(f"The container weights ended and {told}. ")
    assert waiting.message.endswith(numbers)
