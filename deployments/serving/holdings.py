"""What an organization holds now, in the units that quotas count (devices, or vCPUs on CPU), and whether its
quota has room for more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet, Sum

from deployments.serving.errors import WishRefused
from deployments.serving.pools import PoolFlavor
from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from marketplace.hardware.models import AcceleratorFamily, Flavor
from marketplace.statements import Given, Statement


def quota_units(flavor: Flavor | PoolFlavor) -> int:
    """Units that one replica on this flavor takes."""
    return units(flavor.accelerator.family, vcpus=flavor.vcpus, devices=flavor.accelerator_count)


def units(family: str, *, vcpus: Decimal, devices: int) -> int:
    """What quotas of a family count of so many vCPUs and devices."""
    return (
        int(vcpus.to_integral_value(rounding=ROUND_CEILING)) if family == AcceleratorFamily.CPU else devices
    )


def held_units(*, organization: Organization, besides: Workload | None = None) -> Counter[str]:
    """Family -> units that every workload of the organization takes together, but for `besides`.

    One query, however many workloads and kinds of them there are.
    """
    left_out = besides.public_id if besides is not None else ""
    held: Counter[str] = Counter()
    for family, vcpus, devices, replicas in _held.rows(organization=organization.pk, besides=left_out):
        held[family] += units(family, vcpus=vcpus, devices=devices) * replicas
    return held


def _sizes() -> QuerySet[Any, Any]:
    first, *others = (
        share.rows.filter(organization=Given("organization"))
        .exclude(public_id=Given("besides"))
        .values_list(
            f"{share.flavor}__accelerator__family",
            f"{share.flavor}__vcpus",
            f"{share.flavor}__accelerator_count",
        )
        .annotate(replicas=Sum(share.replicas))
        for kind in Workload.__subclasses__()
        for share in kind.shares()
    )
    together: QuerySet[Any, Any] = first.union(*others, all=True)
    return together


_held = Statement(_sizes)


@transaction.atomic
def require_quota(
    *,
    organization: Organization,
    wanted: Sequence[tuple[Flavor, int]],
    besides: Workload | None = None,
) -> None:
    """Raises WishRefused unless the quotas have room for what is `wanted`, so many replicas of each flavor,
    beside all workloads but `besides`.

    Whoever writes a wish calls it in the same transaction: the quota stays locked until its end, so that two
    wishes cannot both take what is left.
    """
    needs: Counter[str] = Counter()
    for flavor, replicas in wanted:
        needs[flavor.accelerator.family] += quota_units(flavor) * replicas
    quotas = Quota.objects.select_for_update().filter(organization=organization, accelerator_family__in=needs)
    limits = {quota.accelerator_family: quota.limit for quota in quotas.order_by("pk")}
    if not limits:
        return
    all_held = held_units(organization=organization, besides=besides)
    for family, limit in limits.items():
        need, held = needs[family], all_held[family]
        if held + need > limit:
            raise WishRefused(
                f"This needs {need} of your quota of {limit} for {family}; {held} are held. "
                "Pause or delete a deployment, or ask the provider for a higher quota.",
                type="quota-exceeded",
                need=need,
                held=held,
                limit=limit,
            )
