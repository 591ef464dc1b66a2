from __future__ import annotations

import pytest

from deployments.reconcile.status import Job, State
from deployments.reconcile.termination import (
    Outcome,
    Payer,
    TerminationReason,
    customer_text,
    helps_to_retry,
    state_after,
    termination_reason,
    who_pays,
)
from deployments.reconcile.usage import Phase
from deployments.serving.models import DeploymentState
from deployments.tuning.models import JobState
from marketplace.billing.models import UsageCause, UsagePhase

ENDS = [
    ("done", {"exit_code": 0}, TerminationReason.COMPLETED),
    ("stopped as asked", {"exit_code": 143, "stop_requested": True}, TerminationReason.STOP_REQUESTED),
    ("bad data", {"exit_code": 65}, TerminationReason.BAD_INPUT),
    ("bad configuration", {"exit_code": 78}, TerminationReason.BAD_CONFIGURATION),
    ("a saved checkpoint", {"exit_code": 75}, TerminationReason.INTERRUPTED),
    ("our error", {"exit_code": 70}, TerminationReason.INTERNAL_ERROR),
    ("no memory", {"exit_code": 137, "word": "OOMKilled"}, TerminationReason.OUT_OF_MEMORY),
    ("killed", {"exit_code": 137, "word": "Error"}, TerminationReason.KILLED),
    ("any other code", {"exit_code": 3}, TerminationReason.CRASHED),
    ("evicted", {"exit_code": 143, "word": "Evicted"}, TerminationReason.EVICTED),
    ("no weights", {"exit_code": 66, "started": False, "word": "Error"}, TerminationReason.WEIGHTS_MISSING),
    ("other weights", {"exit_code": 76, "started": False}, TerminationReason.WEIGHTS_CORRUPT),
    ("a full cache", {"exit_code": 73, "started": False}, TerminationReason.WEIGHTS_NO_SPACE),
    ("gone without a report", {"vanished": True}, TerminationReason.VANISHED),
    ("gone before it started", {"vanished": True, "started": False}, TerminationReason.NEVER_STARTED),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS])
def test_it_names_the_end(facts, expected):
    usual = {"word": "", "exit_code": None, "started": True, "vanished": False, "stop_requested": False}
    assert termination_reason(**(usual | facts)) is expected


@pytest.mark.parametrize("reason", TerminationReason)
def test_every_end_has_a_meaning(reason):
    assert isinstance(state_after(reason), Outcome)
    assert isinstance(helps_to_retry(reason), bool)
    assert isinstance(who_pays(reason), Payer)
    assert customer_text(reason).endswith(".")


def test_the_words_of_the_pure_modules_are_those_of_the_database():
    assert {it.value for it in State} == set(DeploymentState.values)
    assert {it.value for it in Job} == set(JobState.values)
    assert {it.value for it in Payer} == set(UsageCause.values)
    assert {it.value for it in Phase} == set(UsagePhase.values)
