"""Which flavors can be had where: those with a node pool on an enabled cluster."""

from __future__ import annotations

from django.db.models import QuerySet

from marketplace.hardware.models import NodePool


def open_pools() -> QuerySet[NodePool]:
    """Node pools that take new workloads."""
    return NodePool.objects.filter(cluster__enabled=True, flavor__enabled=True)
