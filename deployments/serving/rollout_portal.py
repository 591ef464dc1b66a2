"""What the page of a deployment shows and does of revisions and of its deletion. It asks; `revising`, the
REST serializers and `previews` decide.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from deployments.serving import lifecycle, revising
from deployments.serving.deletion_serializers import DeletionReceiptSerializer, DeletionSerializer
from deployments.serving.errors import WishRefused
from deployments.serving.models import Deletion, DeletionReceipt, Deployment
from deployments.serving.plans import ask_of, make_plan
from deployments.serving.previews import preview_rollback, preview_update
from deployments.serving.rollout_serializers import DeploymentChangeSerializer, RevisionSerializer
from deployments.serving.rollouts import RolloutAsk
from marketplace.accounts.actors import Actor
from marketplace.web.pages import PortalPage

NEWEST_REVISIONS = 10
CANARY = "canary"


class ChangeForm(forms.Form):
    """What is to run differently, and how the new revision comes."""

    replicas = forms.IntegerField(min_value=1, max_value=100)
    context_length = forms.IntegerField(min_value=1, required=False, help_text="Tokens of prompt and answer.")
    max_concurrency = forms.IntegerField(label="Requests at once", min_value=1, max_value=1024)
    strategy = forms.ChoiceField(
        label="How",
        choices=[
            ("rolling", "The old revision serves until the new one is ready"),
            ("recreate", "The old revision goes first (downtime, no room for both needed)"),
            (CANARY, "As a canary, for a part of the requests"),
        ],
    )
    weight = forms.IntegerField(
        label="Percent for the canary", min_value=1, max_value=99, required=False, initial=10
    )

    @classmethod
    def of(cls, deployment: Deployment) -> ChangeForm:
        """Filled with what is wished now."""
        wished = ask_of(deployment)
        return cls(
            initial={
                "replicas": wished.replicas,
                "context_length": wished.context_length or None,
                "max_concurrency": wished.max_concurrency,
                "strategy": "rolling",
                "weight": 10,
            }
        )

    def asked(self, deployment: Deployment, *, actor: Actor) -> DeploymentChangeSerializer | None:
        """The change as the REST API understands it; None after adding its errors to the form."""
        wished = ask_of(deployment)
        values: dict[str, Any] = {
            name: self.cleaned_data[name]
            for name in ("replicas", "context_length", "max_concurrency")
            if self.cleaned_data[name] not in (None, getattr(wished, name))
        }
        if values.keys() - {"replicas"}:
            strategy = self.cleaned_data["strategy"]
            how = {"strategy": strategy}
            if strategy == CANARY:
                how = {"canary": {"weight": self.cleaned_data["weight"] or 10}}
            values |= how
        asked = DeploymentChangeSerializer(data=values, context={"actor": actor, "deployment": deployment})
        if asked.is_valid():
            return asked
        for field, errors in asked.errors.items():
            self.add_error(field if field in self.fields else None, [str(error) for error in _flat(errors)])
        return None


def _flat(errors: Any) -> list[Any]:
    return (
        [error for part in errors.values() for error in _flat(part)] if isinstance(errors, dict) else errors
    )


class RevisionActions(PortalPage):
    """The part of a deployment's page that is about its revisions."""

    actions: ClassVar = {
        "pause": lifecycle.pause_deployment,
        "resume": lifecycle.resume_deployment,
        "delete": lifecycle.delete_deployment,
        "promote": revising.promote_canary,
        "abort": revising.abort_update,
    }

    def revisions_of(self, deployment: Deployment) -> list[dict[str, Any]]:
        """The newest revisions as the REST API shows them, the newest first."""
        rows = deployment.revisions.select_related("version", "flavor", "price").order_by("-number")
        newest = list(rows[: NEWEST_REVISIONS + 1])
        known = {revision.number: revision for revision in newest}
        context = {"deployment": deployment, "revisions": known}
        shown: Any = newest[:NEWEST_REVISIONS]
        return list(RevisionSerializer(shown, many=True, context=context).data)

    def deletion_of(self, deployment: Deployment) -> dict[str, Any] | None:
        deletion = Deletion.objects.filter(resource=deployment.public_id).first()
        return None if deletion is None else dict(DeletionSerializer(deletion).data)

    def act(self, request: HttpRequest, deployment: Deployment) -> HttpResponse:
        """Does what a form of the page asks for."""
        name = request.POST.get("action", "")
        try:
            if name in ("preview-rollback", "rollback"):
                return self._roll_back(request, deployment, for_good=name == "rollback")
            if name in ("preview-change", "change"):
                return self._change(request, deployment, for_good=name == "change")
            if name in self.actions:
                self.actions[name](actor=self.actor, deployment=deployment)
        except WishRefused as refusal:
            messages.error(request, refusal.message)
        return redirect(request.path)

    def _roll_back(self, request: HttpRequest, deployment: Deployment, *, for_good: bool) -> HttpResponse:
        text = request.POST.get("revision", "")
        number = int(text) if text.isdecimal() and len(text) < 10 else 0
        rollback = revising.plan_rollback(actor=self.actor, deployment=deployment, number=number)
        if for_good:
            revising.roll_back(
                actor=self.actor, deployment=deployment, rollback=rollback, rollout=RolloutAsk()
            )
            return redirect(request.path)
        preview = preview_rollback(deployment, rollback=rollback, rollout=RolloutAsk())
        return self.render_to_response(self.get_context_data(preview=preview, rollback_to=number))

    def _change(self, request: HttpRequest, deployment: Deployment, *, for_good: bool) -> HttpResponse:
        form = ChangeForm(request.POST)
        asked = form.asked(deployment, actor=self.actor) if form.is_valid() else None
        if asked is None:
            return self.render_to_response(self.get_context_data(change=form))
        plan = make_plan(actor=self.actor, ask=asked.to_ask(), besides=deployment)
        if for_good:
            lifecycle.update_deployment(
                actor=self.actor, deployment=deployment, plan=plan, rollout=asked.to_rollout()
            )
            return redirect(request.path)
        preview = preview_update(deployment, plan=plan, rollout=asked.to_rollout())
        return self.render_to_response(self.get_context_data(preview=preview, change=form, changing=True))


class ReceiptDownload(PortalPage):
    """The receipt of what is gone, as a file."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        receipt = get_object_or_404(
            DeletionReceipt.objects.select_related("organization"),
            organization=self.actor.organization,
            resource=kwargs["public_id"],
        )
        document = json.dumps(DeletionReceiptSerializer(receipt).data, indent=2)
        return HttpResponse(
            document,
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{receipt.public_id}.json"'},
        )
