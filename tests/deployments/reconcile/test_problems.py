"""What customers are told of a cluster's error, and what stays in the log."""

from __future__ import annotations

import logging

import pytest

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterError,
    ClusterForbidden,
    ClusterMisconfigured,
    ClusterNoCapacity,
    ClusterRejected,
    ClusterUnreachable,
)
from deployments.reconcile.conditions import Problem
from deployments.reconcile.problems import incident_of, problem_of
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World

NO_ROUTE = (
    "list pods: no answer: HTTPSConnectionPool(host='10.1.2.3', port=6443): "
    "<urllib3.connection.HTTPSConnection object at 0x7f11aa>: connection refused"
)
NO_RIGHTS = 'pods is forbidden: User "system:serviceaccount:market:backend" cannot list resource "pods"'
NO_FILE = "kubeconfig /etc/market/kubeconfig does not exist; give the path of one that this process can read"
QUOTA = "pods is forbidden: exceeded quota: all, requested: cpu=2, used: cpu=7, limited: cpu=8"


@pytest.mark.parametrize(
    ("error", "reason", "sentence"),
    [
        (
            ClusterForbidden(NO_RIGHTS),
            "Forbidden",
            "We are not allowed to do this on the cluster. This is ours to mend.",
        ),
        (
            ClusterUnreachable(NO_ROUTE),
            "Unreachable",
            "The cluster does not answer. We try again; what runs there goes on.",
        ),
        (
            ClusterMisconfigured(NO_FILE, field="kubeconfig"),
            "Misconfigured",
            "The cluster is set up wrongly. This is ours to mend.",
        ),
        (
            ClusterNoCapacity(QUOTA),
            "NoCapacity",
            "A quota of the cluster is used up. It goes on when there is room again. "
            "cpu: 2 asked for, 7 of 8 used.",
        ),
        (
            ClusterConflict("apply Secret x: 10.1.2.3"),
            "Conflict",
            "Somebody else changes the same objects. We look again.",
        ),
        (ClusterError(NO_ROUTE), "ClusterError", "The cluster cannot do this now. We try again."),
    ],
)
def test_it_tells_a_fixed_sentence_and_an_incident_and_nothing_of_the_provider(
    error: ClusterError, reason: str, sentence: str
) -> None:
    assert problem_of(error) == Problem(reason=reason, message=f"{sentence} (incident {incident_of(error)})")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("spec.containers[0].image", " The field is spec.containers[0].image."),
        ("", ""),
        ("ask ops@provider.example, host 10.1.2.3", ""),
    ],
)
def test_a_refused_object_is_told_with_its_field_and_without_the_webhook_s_words(
    field: str, told: str
) -> None:
    error = ClusterRejected(
        'admission webhook "policy.provider.example" denied the request: see https://10.1.2.3', field=field
    )

    assert problem_of(error) == Problem(
        reason="Rejected",
        message=f"The cluster does not take this as it is.{told} (incident {incident_of(error)})",
    )


def test_the_same_error_is_the_same_incident_and_another_is_not() -> None:
    again = NO_ROUTE.replace("0x7f11aa", "0x7fbeef")

    assert incident_of(ClusterUnreachable(NO_ROUTE)) == incident_of(ClusterUnreachable(again))
    assert incident_of(ClusterUnreachable(NO_ROUTE)) != incident_of(ClusterUnreachable(NO_FILE))
    assert incident_of(ClusterUnreachable(NO_ROUTE)) != incident_of(ClusterError(NO_ROUTE))


@pytest.mark.django_db(transaction=True)
def test_the_log_has_the_incident_that_the_customer_is_told_beside_the_detail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bot = world.create_deployment()
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable(NO_ROUTE))

    with caplog.at_level(logging.WARNING, logger="deployments.reconcile.reconciler"):
        world.reconcile(bot)
    first = bot.conditions
    world.reconcile(bot)

    incident = incident_of(ClusterUnreachable(NO_ROUTE))
    assert f"incident {incident}: {NO_ROUTE}" in caplog.text
    assert incident in str(first) and incident in str(bot.explanation)
    assert "10.1.2.3" not in f"{bot.conditions} {bot.explanation}"
    assert bot.conditions == first
