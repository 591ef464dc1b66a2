"""The staff's view of hardware: chips, flavors, and places with their node pools. Prices are billing's."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from marketplace.accounts.audited_admin import AuditedAdmin
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region


@admin.register(Accelerator)
class AcceleratorAdmin(AuditedAdmin[Accelerator]):
    list_display = ("name", "vendor", "family", "memory", "attachment", "resource_name", "peak_tflops")
    list_filter = ("family", "vendor", "attachment")
    search_fields = ("name", "slug")

    @admin.display(description="memory", ordering="memory_bytes")
    def memory(self, chip: Accelerator) -> str:
        return filesizeformat(chip.memory_bytes) if chip.memory_bytes else "the host's"


class PoolInline(admin.TabularInline[NodePool, Cluster]):
    model = NodePool
    extra = 0
    autocomplete_fields = ("flavor",)


@admin.register(Flavor)
class FlavorAdmin(AuditedAdmin[Flavor]):
    list_display = (
        "name",
        "slug",
        "machine_class",
        "accelerator",
        "accelerator_count",
        "vcpus",
        "memory",
        "enabled",
    )
    list_filter = ("enabled", "machine_class", "accelerator__family", "accelerator")
    search_fields = ("name", "slug", "public_id")
    list_select_related = ("accelerator",)
    autocomplete_fields = ("accelerator",)

    @admin.display(description="memory", ordering="memory_bytes")
    def memory(self, flavor: Flavor) -> str:
        return filesizeformat(flavor.memory_bytes)

    def get_readonly_fields(self, request: HttpRequest, obj: Flavor | None = None) -> tuple[str, ...]:
        # Plans and bills name a flavor by its slug: it is chosen once.
        return ("public_id", "slug") if obj else ("public_id",)


@admin.register(Region)
class RegionAdmin(AuditedAdmin[Region]):
    list_display = ("name", "slug", "country")
    search_fields = ("name", "slug")


@admin.register(Cluster)
class ClusterAdmin(AuditedAdmin[Cluster]):
    list_display = ("slug", "region", "kind", "enabled")
    list_filter = ("kind", "enabled", "region")
    search_fields = ("slug",)
    list_select_related = ("region",)
    inlines: ClassVar = [PoolInline]
