from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import pytest

from deployments.tuning.progress import fold_event
from runtimes.contract import EVENT_PREFIX, format_event, parse_event

STARTED = {
    "type": "started",
    "step": 0,
    "total_steps": 30,
    "train_examples": 66,
    "validation_examples": 12,
    "train_tokens": 5000,
    "resumed_from_step": 0,
}
RUN = [
    STARTED,
    {"type": "evaluation", "step": 0, "validation_loss": 3.5},
    {
        "type": "progress",
        "step": 1,
        "total_steps": 30,
        "loss": 3.4,
        "trained_tokens": 500,
        "eta_seconds": 60.0,
    },
    {"type": "checkpoint", "step": 1, "path": "step-1"},
    {
        "type": "progress",
        "step": 2,
        "total_steps": 30,
        "loss": 3.1,
        "trained_tokens": 990,
        "eta_seconds": 58.0,
    },
]


def fold_events(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The progress after all the events, oldest first, as looks one after another fold them."""
    return reduce(fold_event, events, {})


def test_a_running_job_shows_its_newest_step_and_the_loss_before_tuning() -> None:
    assert fold_events(RUN) == {
        "step": 2,
        "total_steps": 30,
        "train_examples": 66,
        "validation_examples": 12,
        "train_tokens": 5000,
        "loss": 3.1,
        "trained_tokens": 990,
        "eta_seconds": 58.0,
        "validation_loss_before": 3.5,
    }


def test_a_finished_job_shows_both_losses_and_nothing_left_to_wait_for() -> None:
    end = [
        {"type": "evaluation", "step": 30, "validation_loss": 1.25},
        {
            "type": "finished",
            "step": 30,
            "trained_tokens": 15000,
            "validation_loss_before": 3.5,
            "validation_loss_after": 1.25,
            "seconds": 48.5,
        },
    ]
    progress = fold_events(RUN + end)
    shown = ("step", "eta_seconds", "validation_loss_before", "validation_loss_after", "seconds")
    assert [progress[name] for name in shown] == [30, 0, 3.5, 1.25, 48.5]


def test_a_second_attempt_goes_back_to_its_checkpoint_and_keeps_the_first_loss() -> None:
    progress = fold_events([*RUN, {**STARTED, "resumed_from_step": 1}])
    assert (progress["step"], progress["validation_loss_before"]) == (1, 3.5)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "1.0", None, True, [1]])
def test_a_figure_that_is_no_finite_number_is_left_out(loss: object) -> None:
    event = {"type": "progress", "step": 3, "total_steps": 30, "loss": loss}
    assert fold_event({"loss": 2.0}, event) == {"step": 3, "total_steps": 30, "loss": 2.0}


def test_an_event_with_a_number_that_json_lacks_is_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_event({"type": "progress", "step": 1, "loss": float("nan")})
    assert parse_event(EVENT_PREFIX + '{"type": "progress", "step": 1, "loss": NaN}') is None
