"""What an organization holds now, in the units that quotas count: devices, or vCPUs on CPU."""

from __future__ import annotations

from decimal import ROUND_CEILING

from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
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
