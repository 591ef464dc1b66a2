"""Where a workspace can run and what it costs there: the cheapest of the places that fit what was asked."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from deployments.serving.errors import WishRefused
from deployments.workspaces.addresses import is_apart
from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.billing.prices import price_in_force
from marketplace.catalog.models import Framework
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import AcceleratorFamily, Flavor, NodePool, Region
from marketplace.hardware.placement import open_pools


@dataclass(frozen=True, kw_only=True)
class WorkspaceAsk:
    """What a customer asks for."""

    name: str
    framework: Framework
    flavor: Flavor
    region: Region | None
    """None = where it is cheapest."""
    volume_gib: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it runs, and its price by the second."""

    pool: NodePool
    price: Price


def find_place(ask: WorkspaceAsk, *, organization: Organization) -> Place:
    """The cheapest place. Raises WishRefused naming the field that stands in the way."""
    if not is_apart():
        raise WishRefused(
            "This installation offers no workspaces: its gateway has no address of its own. "
            "Ask the provider.",
            type="no-workspaces",
        )
    _require_workspace(ask.framework)
    _require_same_family(ask.framework, ask.flavor)
    _require_unprivileged(ask.flavor)
    open_here = open_pools().filter(flavor=ask.flavor)
    pools = list(open_here.select_related("flavor__accelerator", "cluster__region"))
    if not pools:
        raise WishRefused(
            f"{ask.flavor.slug} is not on offer now. GET /api/v1/flavors/ lists what is.",
            type="no-such-place",
            field="flavor",
        )
    asked = [pool for pool in pools if ask.region in (None, pool.cluster.region)]
    if not asked:
        regions = ", ".join(sorted({pool.cluster.region.slug for pool in pools}))
        raise WishRefused(f"{ask.flavor.slug} is there in: {regions}.", type="no-such-place", field="region")
    now = timezone.now()
    places = [
        Place(pool=pool, price=price)
        for pool in asked
        if (
            price := price_in_force(
                flavor=ask.flavor, region=pool.cluster.region, organization=organization, at=now
            )
        )
    ]
    if not places:
        raise WishRefused(
            f"{ask.flavor.slug} has no price today. Take another flavor, or ask the provider.",
            type="not-sold",
            field="flavor",
        )
    return min(places, key=lambda place: place.price.per_second)


def _require_workspace(framework: Framework) -> None:
    if not framework.workspace_image:
        offered = Framework.objects.filter(listed=True).exclude(workspace_image="").order_by("slug")
        names = ", ".join(offered.values_list("slug", flat=True)) or "none"
        raise WishRefused(
            f"There is no workspace for {framework.slug}. There are: {names}.",
            type="no-workspace",
            field="framework",
        )


def _require_same_family(framework: Framework, flavor: Flavor) -> None:
    has = flavor.accelerator.family
    needs = framework.accelerator_family
    if has == needs:
        return
    pools = open_pools().filter(flavor__accelerator__family=needs)
    pools = pools.exclude(flavor__accelerator__attachment=Attachment.IPUJOB)
    fitting = ", ".join(pools.order_by("flavor__slug").values_list("flavor__slug", flat=True).distinct())
    raise WishRefused(
        f"{framework.name} needs {AcceleratorFamily(needs).label}; {flavor.slug} has "
        f"{AcceleratorFamily(has).label}. Flavors that fit: {fitting or 'none are on offer'}.",
        type="family-mismatch",
        field="flavor",
    )


def _require_unprivileged(flavor: Flavor) -> None:
    """A notebook runs the customer's own code, and the pods of an IPUJob are privileged, with the node's IPC:
    together they would be the node in a customer's hands."""
    if flavor.accelerator.attachment == Attachment.IPUJOB:
        raise WishRefused(
            f"{flavor.slug} is attached by an IPUJob, whose pods are privileged on their node, so no "
            "workspace runs on it. Take a flavor attached by a device plug-in.",
            type="privileged-flavor",
            field="flavor",
        )
