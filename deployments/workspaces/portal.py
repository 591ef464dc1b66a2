"""The portal's pages of workspaces: what there is, and one with the button that opens it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from deployments.serving.errors import WishRefused
from deployments.serving.explanations import live_explanation
from deployments.serving.models import Event
from deployments.serving.plans import quoted
from deployments.serving.postmortems import newest_post_mortems
from deployments.serving.timelines import timelines
from deployments.workspaces import lifecycle
from deployments.workspaces.addresses import open_url
from deployments.workspaces.forms import WorkspaceForm
from deployments.workspaces.models import Workspace, WorkspaceState
from deployments.workspaces.starts import earlier_starts
from marketplace.accounts.models import Scope
from marketplace.web.pages import PortalPage

NEWEST_EVENTS = 20
TIMELINES_SHOWN = 1


class WorkspacesPage(PortalPage):
    """The organization's workspaces, and the form that adds one."""

    template_name = "workspaces/workspaces.html"
    post_scope: ClassVar[str] = Scope.DEPLOY

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(**context) | {
            "workspaces": live_workspaces(self).order_by("-public_id"),
            "form": context.get("form") or WorkspaceForm(actor=self.actor),
        }

    def post(self, request: HttpRequest) -> HttpResponseBase:
        form = WorkspaceForm(request.POST, actor=self.actor)
        ask = form.to_ask() if form.is_valid() else None
        if ask is not None:
            try:
                workspace = lifecycle.create_workspace(actor=self.actor, ask=ask)
            except WishRefused as refusal:
                form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
            else:
                return redirect(reverse("workspace", args=[workspace.public_id]))
        return self.render_to_response(self.get_context_data(form=form))


class WorkspacePage(PortalPage):
    """One workspace: its state and why, the way in, what happened, and what can be done."""

    template_name = "workspaces/workspace.html"
    post_scope: ClassVar[str] = Scope.DEPLOY
    actions: ClassVar = {
        "pause": lifecycle.pause_workspace,
        "resume": lifecycle.resume_workspace,
        "rotate": lifecycle.rotate_token,
        "delete": lifecycle.delete_workspace,
    }

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        workspace = self._workspace()
        price = workspace.price
        starting = (WorkspaceState.PENDING, WorkspaceState.INITIALIZING, WorkspaceState.DELETING)
        return super().get_context_data(**context) | {
            "workspace": workspace,
            "explanation": live_explanation(workspace),
            "post_mortems": newest_post_mortems(workspace),
            "timelines": timelines(workspace, now=timezone.now(), earlier=earlier_starts)[:TIMELINES_SHOWN],
            "price": quoted(per_second=price.per_second, currency=price.currency, replicas=1),
            "events": Event.objects.filter(resource=workspace.public_id).order_by("-id")[:NEWEST_EVENTS],
            "settling": workspace.state in starting or workspace.generation != workspace.observed_generation,
        }

    def post(self, request: HttpRequest, public_id: str) -> HttpResponseBase:
        workspace = self._workspace()
        wished = request.POST.get("action", "")
        try:
            if wished == "open":
                token = lifecycle.show_token(actor=self.actor, workspace=workspace)
                return redirect(open_url(workspace.public_id, token=token))
            act = self.actions.get(wished)
            if act is not None:
                act(actor=self.actor, workspace=workspace)
        except WishRefused as refusal:
            messages.error(request, refusal.message)
        return redirect(request.path)

    def _workspace(self) -> Workspace:
        rows = Workspace.objects.filter(organization=self.actor.organization)
        related = rows.select_related("price", "framework", "flavor__accelerator", "cluster__region")
        return get_object_or_404(related, public_id=self.kwargs["public_id"])


def live_workspaces(page: PortalPage) -> QuerySet[Workspace]:
    """The organization's workspaces that are not gone."""
    rows = Workspace.objects.filter(organization=page.actor.organization, deleted_at__isnull=True)
    return rows.select_related("framework", "flavor", "cluster__region")
