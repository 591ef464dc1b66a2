"""What the port says of a pod on Kubernetes while its init container brings the weights, and after."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.clusters.kubernetes.pods import observed_pod

NUMBERS = "80.00 GiB are needed, but 3.00 GiB are free"


def second(number: int) -> datetime:
    return datetime(2026, 5, 4, 3, 2, number, tzinfo=UTC)


def pod(*, phase: str, weights: dict[str, Any], main: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u", "name": "p", "namespace": "n", "creationTimestamp": "2026-05-04T03:02:00Z"},
        "spec": {
            "nodeName": "gpu-1",
            "initContainers": [{"name": "weights"}],
            "containers": [{"name": "runtime"}],
        },
        "status": {
            "phase": phase,
            "initContainerStatuses": [{"name": "weights", **weights}],
            "containerStatuses": [{"name": "runtime", **main}],
        },
    }


def ended(code: int, *, since: int, until: int, message: str = "") -> dict[str, Any]:
    times = {"startedAt": second(since).isoformat(), "finishedAt": second(until).isoformat()}
    return {
        "terminated": {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": message,
            **times,
        }
    }


WAITING = {"state": {"waiting": {"reason": "PodInitializing"}}, "restartCount": 0}


@pytest.mark.parametrize(
    ("case", "phase", "weights", "main", "expected"),
    [
        (
            "it is fetching",
            "Pending",
            {"state": {"running": {"startedAt": "2026-05-04T03:02:05Z"}}, "restartCount": 0},
            WAITING,
            ("weights", 0, None, second(5), None),
        ),
        (
            "it failed and is tried again soon",
            "Pending",
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                "lastState": ended(73, since=5, until=6, message=NUMBERS),
                "restartCount": 1,
            },
            WAITING,
            ("weights", 1, 73, second(5), None),
        ),
        (
            "it failed, of a pod that starts nothing again",
            "Failed",
            {"state": ended(76, since=5, until=6, message=NUMBERS), "restartCount": 0},
            WAITING,
            ("weights", 0, 76, second(5), None),
        ),
        (
            "it has passed on its second attempt",
            "Running",
            {
                "state": ended(0, since=7, until=9),
                "lastState": ended(73, since=5, until=6, message=NUMBERS),
                "restartCount": 1,
            },
            {"state": {"running": {"startedAt": "2026-05-04T03:02:10Z"}}, "restartCount": 0},
            ("", 0, None, second(5), second(9)),
        ),
    ],
)
def test_it_tells_how_far_the_weights_are(case, phase, weights, main, expected):
    seen = observed_pod(pod(phase=phase, weights=weights, main=main))
    assert (
        seen.init_container,
        seen.restarts,
        seen.exit_code,
        seen.image_pulled_at,
        seen.weights_done_at,
    ) == expected, case
    if seen.exit_code:
        assert NUMBERS in seen.message
