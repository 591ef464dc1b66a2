from __future__ import annotations

import pytest
from django.core.checks import run_checks

from marketplace.hardware.models import Cluster, ClusterKind, Region

pytestmark = pytest.mark.django_db


def problems() -> list[tuple[str | None, str]]:
    found = run_checks(databases=["default"])
    return [(item.id, item.msg) for item in found if (item.id or "").startswith("clusters.")]


def test_a_cluster_whose_kubeconfig_points_nowhere_is_told_with_its_name():
    region = Region.objects.create(slug="here", name="Here")
    storage = {"hostPath": {"path": "/data"}}
    row = Cluster.objects.create(
        slug="lost",
        region=region,
        kind=ClusterKind.KUBERNETES,
        configuration={"kubeconfig": "/nowhere", "storage": storage},
    )
    assert problems() == [
        (
            "clusters.E001",
            "Cluster lost cannot be used: kubeconfig /nowhere does not exist; give the path of one that this "
            "process can read.",
        )
    ]
    row.enabled = False
    row.save()
    assert problems() == []


def test_an_unknown_key_of_a_configuration_is_told_too():
    region = Region.objects.create(slug="here", name="Here")
    Cluster.objects.create(
        slug="odd", region=region, kind=ClusterKind.KUBERNETES, configuration={"kubconfig": "/a"}
    )
    [(check, message)] = problems()
    assert check == "clusters.E001"
    assert "kubconfig" in message


def test_without_the_database_nothing_is_asked():
    assert [item for item in run_checks() if (item.id or "").startswith("clusters.")] == []
