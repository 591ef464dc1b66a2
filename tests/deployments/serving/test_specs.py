"""How a flavor becomes what a pod asks for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from deployments.serving.errors import WishRefused
from deployments.serving.spec import Resources
from deployments.serving.specs import pod_resources
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Accelerator, Flavor, NodePool


def flavor(*, count: int, attachment: str, resource_name: str = "") -> Flavor:
    chip = Accelerator(slug="chip", family="ipu", attachment=attachment, resource_name=resource_name)
    return Flavor(
        slug="size", accelerator=chip, accelerator_count=count, vcpus=Decimal("1.5"), memory_bytes=2**30
    )


POOL = NodePool(
    node_selector={"vipu-ctrl": "pod005"},
    taints=[{"key": "a", "effect": "NoSchedule"}, {"key": "b", "value": "c", "effect": "NoExecute"}],
)


def test_ipus_of_a_pod_are_counted_and_asked_for_by_no_resource() -> None:
    assert pod_resources(flavor(count=4, attachment="ipujob"), POOL) == Resources(
        cpu_millicores=1500,
        memory_bytes=2**30,
        accelerator_count=4,
        attachment=Attachment.IPUJOB,
        node_selector={"vipu-ctrl": "pod005"},
        tolerations=(
            {"key": "a", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "b", "operator": "Equal", "value": "c", "effect": "NoExecute"},
        ),
    )


def test_cards_are_asked_for_by_their_resource_in_any_number() -> None:
    card = flavor(count=3, attachment="device_plugin", resource_name="c600.graphcore.ai/ipu")
    resources = pod_resources(card, POOL)
    assert (resources.accelerator_resource, resources.accelerator_count) == ("c600.graphcore.ai/ipu", 3)


@pytest.mark.parametrize("count", [0, 3, 65, 128])
def test_a_flavor_that_makes_no_partition_is_refused_with_the_sizes_that_do(count: int) -> None:
    with pytest.raises(WishRefused) as refusal:
        pod_resources(flavor(count=count, attachment="ipujob"), POOL)
    assert (refusal.value.type, refusal.value.field) == ("flavor-unusable", "flavor")
    assert f"partitions of 1, 2, 4, 8, 16, 32, 64; {count} is none of these" in refusal.value.message
