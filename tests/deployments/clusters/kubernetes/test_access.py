from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deployments.clusters.kubernetes.access import CONTROLLER, READER, policy_rules
from deployments.clusters.kubernetes.kinds import KINDS

ROLES = Path(__file__).resolve().parents[4] / "helm/templates/access"


@pytest.mark.parametrize(("role", "rules"), [("controller", CONTROLLER), ("reader", READER)])
def test_the_chart_grants_what_is_listed(role, rules):
    template = (ROLES / f"clusterrole-{role}.yaml").read_text()
    granted = yaml.safe_load("rules:" + template.partition("rules:")[2].partition("{{-")[0])
    assert granted["rules"] == policy_rules(rules)


def test_every_kind_that_is_observed_may_be_listed_and_kept():
    allowed = {(rule.group, resource): set(rule.verbs) for rule in CONTROLLER for resource in rule.resources}
    for kind in KINDS:
        verbs = allowed.get((kind.group, kind.plural), set())
        expected = {"list", "create", "patch", "delete"} | (set() if kind.shared else {"watch"})
        assert verbs == (expected if kind.observed else set()), kind.kind


def test_every_rule_says_why():
    assert all(rule.reason.endswith(".") for rule in (*CONTROLLER, *READER))
