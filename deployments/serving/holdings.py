"""What an organization holds now, in the units that quotas count (devices, or vCPUs on CPU), and whether its
quota has room for more.
"""

from __future__ import annotations

from collections import Counter
from decimal import ROUND_CEILING, Decimal

from django.db import transaction
from django.db.models import Sum

from deployments.serving.errors import WishRefused
from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from marketplace.hardware.models import AcceleratorFamily, Flavor


def quota_units(flavor: Flavor) -> int:
    """Units that one replica on this flavor takes."""
    return _units(flavor.accelerator.family, vcpus=flavor.vcpus, devices=flavor.accelerator_count)


def _units(family: str, *, vcpus: Decimal, devices: int) -> int:
    return (
        int(vcpus.to_integral_value(rounding=ROUND_CEILING)) if family == AcceleratorFamily.CPU else devices
    )


def held_units(*, organization: Organization, besides: Workload | None = None) -> Counter[str]:
    """Family -> units that every workload of the organization takes together, but for `besides`.

    One query for each kind of workload, however many there are.
    """
    held: Counter[str] = Counter()
    for kind in Workload.__subclasses__():
        rows = kind.wished().filter(organization=organization)
        if isinstance(besides, kind):
            rows = rows.exclude(pk=besides.pk)
        sizes = rows.values_list(
            "flavor__accelerator__family", "flavor__vcpus", "flavor__accelerator_count"
        ).annotate(replicas=Sum(kind.REPLICAS))
        for family, vcpus, devices, replicas in sizes:
            held[family] += _units(family, vcpus=vcpus, devices=devices) * replicas
    return held


@transaction.atomic
def require_quota(
    *, organization: Organization, flavor: Flavor, replicas: int, besides: Workload | None = None
) -> None:
    """Raises WishRefused unless the quota has room for so many replicas beside all workloads but `besides`.

    Whoever writes a wish calls it in the same transaction: the quota stays locked until its end, so that two
    wishes cannot both take what is left.
    """
    family = flavor.accelerator.family
    quotas = Quota.objects.select_for_update().filter(organization=organization, accelerator_family=family)
    quota = quotas.first()
    if quota is None:
        return
    need = quota_units(flavor) * replicas
    held = held_units(organization=organization, besides=besides)[family]
    if held + need > quota.limit:
        raise WishRefused(
            f"This needs {need} of your quota of {quota.limit} for {family}; {held} are held. "
            "Pause or delete a deployment, or ask the provider for a higher quota.",
            type="quota-exceeded",
            need=need,
            held=held,
            limit=quota.limit,
        )
