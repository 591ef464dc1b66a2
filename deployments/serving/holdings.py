"""What an organization holds now, in the units that quotas count (devices, or vCPUs on CPU), and whether its
quota has room for more.
"""

from __future__ import annotations

from decimal import ROUND_CEILING

from django.db import transaction

from deployments.serving.errors import WishRefused
from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from marketplace.hardware.models import AcceleratorFamily, Flavor


def quota_units(flavor: Flavor) -> int:
    """Units that one replica on this flavor takes."""
    if flavor.accelerator.family == AcceleratorFamily.CPU:
        return int(flavor.vcpus.to_integral_value(rounding=ROUND_CEILING))
    return flavor.accelerator_count


def held_units(*, organization: Organization, family: str, besides: Workload | None = None) -> int:
    """Units that every workload of the organization takes together, but for `besides`."""
    return sum(
        quota_units(workload.flavor) * workload.wished_replicas
        for kind in Workload.__subclasses__()
        for workload in kind.holding(organization=organization, family=family)
        if workload != besides
    )


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
    held = held_units(organization=organization, family=family, besides=besides)
    if held + need > quota.limit:
        raise WishRefused(
            f"This needs {need} of your quota of {quota.limit} for {family}; {held} are held. "
            "Pause or delete a deployment, or ask the provider for a higher quota.",
            type="quota-exceeded",
            need=need,
            held=held,
            limit=quota.limit,
        )
