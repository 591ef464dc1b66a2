"""The conformance suite against the servers of this session, each check a test of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtimes.contract import Task
from tests.conformance.checks import Check, Skipped, find_checks
from tests.conformance.own_servers import target_of
from tests.conformance.target import Target

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

SERVERS = {Task.TEXT_GENERATION: "text_server", Task.FEATURE_EXTRACTION: "embedding_server"}
# litellm leaves its connections open, which would be a warning, and so an error, in some other test.
CHECKS = [check for check in find_checks() if check.task in SERVERS and check.group != "litellm_client"]


@pytest.fixture(scope="session")
def targets() -> Iterator[dict[Task, Target]]:
    made: dict[Task, Target] = {}
    try:
        yield made
    finally:
        for target in made.values():
            target.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_it_conforms(check: Check, targets: dict[Task, Target], request: pytest.FixtureRequest) -> None:
    if check.task not in targets:
        targets[check.task] = target_of(request.getfixturevalue(SERVERS[check.task]))
    try:
        check.run(targets[check.task])
    except Skipped as reason:
        pytest.skip(str(reason))


def test_there_are_enough_checks_and_each_has_its_own_name() -> None:
    names = [check.id for check in find_checks()]

    assert len(names) == len(set(names)) >= 120
