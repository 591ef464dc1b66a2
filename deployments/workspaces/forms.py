"""The portal's form of a workspace. It asks; the REST serializer decides."""

from __future__ import annotations

from typing import Any

from django import forms

from deployments.workspaces.placing import WorkspaceAsk
from deployments.workspaces.serializers import (
    DEFAULT_VOLUME_GIB,
    LARGEST_VOLUME_GIB,
    WorkspaceAskSerializer,
)
from marketplace.accounts.actors import Actor
from marketplace.catalog.models import Framework
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Flavor
from marketplace.hardware.placement import open_pools


class WorkspaceForm(forms.Form):
    """Which framework, on what."""

    name = forms.CharField(max_length=40)
    framework = forms.ModelChoiceField(
        Framework.objects.none(), to_field_name="slug", empty_label=None, help_text="What is installed in it."
    )
    flavor = forms.ModelChoiceField(Flavor.objects.none(), to_field_name="slug", empty_label=None)
    volume_gib = forms.IntegerField(
        label="Volume, GiB",
        min_value=1,
        max_value=LARGEST_VOLUME_GIB,
        initial=DEFAULT_VOLUME_GIB,
        help_text="Kept while it is paused, lost when it is deleted.",
    )

    def __init__(self, *args: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*args, **options)
        self.actor = actor
        flavors = Flavor.objects.filter(node_pools__in=open_pools()).distinct()
        flavors = flavors.exclude(accelerator__attachment=Attachment.IPUJOB)  # see `placing`
        families = flavors.values("accelerator__family")
        offered = Framework.objects.filter(listed=True, accelerator_family__in=families)
        for name, rows in (
            ("framework", offered.exclude(workspace_image="")),
            ("flavor", flavors),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = rows.order_by("slug")

    def to_ask(self) -> WorkspaceAsk | None:
        """The ask as the REST API understands it; None after adding its errors to the form."""
        values = self.cleaned_data
        body = {
            **{name: values[name] for name in ("name", "volume_gib")},
            **{name: values[name].slug for name in ("framework", "flavor")},
        }
        asked = WorkspaceAskSerializer(data=body, context={"actor": self.actor})
        if asked.is_valid():
            return asked.to_ask()
        for field, messages in asked.errors.items():
            self.add_error(field if field in self.fields else None, str(messages))
        return None
