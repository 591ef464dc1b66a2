"""The portal's pages of models to deploy and of what is deployed."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from deployments.clusters.errors import ClusterError
from deployments.planning.checks import gib
from deployments.serving import lifecycle
from deployments.serving.actions import apply_action
from deployments.serving.binding import OUTDATED, plan_again, require_current
from deployments.serving.errors import WishRefused
from deployments.serving.explanations import live_explanation
from deployments.serving.forms import AskForm, DeployForm
from deployments.serving.logs import read_log
from deployments.serving.models import Deployment, DeploymentState, Event, Plan
from deployments.serving.plans import make_plan, quote_json
from deployments.serving.postmortems import newest_post_mortems
from deployments.serving.references import visible_versions
from deployments.serving.rollout_portal import ChangeForm, RevisionActions
from deployments.serving.timelines import timelines
from marketplace.accounts.models import Scope
from marketplace.billing.money import quote
from marketplace.catalog.access import accept_terms, needs_acceptance
from marketplace.catalog.models import ModelVersion
from marketplace.catalog.offers import visible_models
from marketplace.web.pages import PortalPage

NEWEST_EVENTS = 20
NEWEST_LINES = 100
TIMELINES_SHOWN = 3


class HomePage(PortalPage):
    """The catalog, and what the organization runs."""

    template_name = "serving/home.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        runnable = Count(
            "versions", filter=Q(versions__published_at__isnull=False) & ~Q(versions__storage_path="")
        )
        models = (
            visible_models(self.actor.organization)
            .select_related("license")
            .annotate(runnable=runnable)
            .order_by("-runnable", "task", "name")
        )
        return super().get_context_data(**context) | {
            "models": models,
            "deployments": live_deployments(self),
        }


class DeploymentsPage(PortalPage):
    template_name = "serving/deployments.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(**context) | {"deployments": live_deployments(self)}


class ModelPage(PortalPage):
    """One model: plan it, see fit and price, deploy it."""

    template_name = "serving/model.html"
    post_scope: ClassVar[str] = Scope.DEPLOY

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        model = get_object_or_404(visible_models(self.actor.organization), public_id=self.kwargs["public_id"])
        return super().get_context_data(**context) | {
            "model": model,
            "version": self._version(),
            "terms_missing": needs_acceptance(model, organization=self.actor.organization),
            "form": context.get("form") or AskForm(),
            "memory": _memory_of(context.get("plan")),
        }

    def post(self, request: HttpRequest, public_id: str) -> HttpResponseBase:
        version = self._version()
        if version is None:
            return self.render_to_response(self.get_context_data())
        if "accept-terms" in request.POST:
            return self._accept_terms(version)
        if "name" in request.POST:
            return self._deploy(version)
        form = AskForm(request.POST)
        ask = form.to_ask(version=version, actor=self.actor) if form.is_valid() else None
        context: dict[str, Any] = {"form": form}
        if ask is not None:
            plan = make_plan(actor=self.actor, ask=ask)
            context |= {"plan": plan, "deploy": DeployForm.offering(plan, version=version)}
        return self.render_to_response(self.get_context_data(**context))

    def _accept_terms(self, version: ModelVersion) -> HttpResponseBase:
        if Scope.ADMIN in self.actor.scopes:
            accept_terms(actor=self.actor, model=version.model)
            messages.success(self.request, f"The terms of {version.model.name} are accepted.")
        else:
            messages.error(self.request, "Only an owner of your organization can accept terms.")
        return redirect(self.request.path)

    def _deploy(self, version: ModelVersion) -> HttpResponseBase:
        form = DeployForm(self.request.POST)
        plan = get_object_or_404(
            Plan,
            organization=self.actor.organization,
            public_id=self.request.POST.get("plan", "").replace("\x00", ""),
        )
        if form.is_valid():
            try:
                require_current(plan)
                deployment = lifecycle.create_deployment(
                    actor=self.actor, plan=plan, name=form.cleaned_data["name"]
                )
            except WishRefused as refusal:
                if refusal.type in OUTDATED:
                    plan = plan_again(plan.public_id, actor=self.actor)
                    form = DeployForm({"plan": plan.public_id, "name": form.cleaned_data["name"]})
                form.add_error("name" if refusal.field == "name" else None, refusal.message)
            else:
                messages.success(self.request, f"{deployment.name} is being started.")
                return redirect(reverse("deployment", args=[deployment.public_id]))
        return self.render_to_response(self.get_context_data(plan=plan, deploy=form))

    def _version(self) -> ModelVersion | None:
        return (
            visible_versions(self.actor.organization)
            .filter(model__public_id=self.kwargs["public_id"])
            .order_by("-published_at")
            .first()
        )


class DeploymentPage(RevisionActions):
    """One deployment: its state and why, how to call it, what happened, and what can be done."""

    template_name = "serving/deployment.html"
    post_scope: ClassVar[str] = Scope.DEPLOY

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        deployment = self._deployment()
        price = quote(
            per_second=deployment.price.per_second,
            currency=deployment.price.currency,
            replicas=deployment.desired_replicas,
        )
        return super().get_context_data(**context) | {
            "deployment": deployment,
            "explanation": live_explanation(deployment),
            "post_mortems": newest_post_mortems(deployment),
            "revisions": self.revisions_of(deployment),
            "deletion": self.deletion_of(deployment),
            "change": context.get("change") or ChangeForm.of(deployment),
            "timelines": timelines(deployment, now=timezone.now())[:TIMELINES_SHOWN],
            "model": deployment.revisions.get(number=deployment.target_revision).version.model,
            "price": quote_json(price),
            "base_url": f"{settings.GATEWAY_URL}/v1",
            "events": Event.objects.filter(resource=deployment.public_id).order_by("-id")[:NEWEST_EVENTS],
            "log": _newest_lines(deployment),
            "settling": deployment.state
            in (DeploymentState.PENDING, DeploymentState.INITIALIZING, DeploymentState.UPDATING)
            or deployment.generation != deployment.observed_generation,
        }

    def post(self, request: HttpRequest, public_id: str) -> HttpResponse:
        deployment = self._deployment()
        if request.POST.get("way-out"):
            return self._take_way_out(deployment, request.POST["way-out"])
        return self.act(request, deployment)

    def _take_way_out(self, deployment: Deployment, action: str) -> HttpResponse:
        try:
            apply_action(actor=self.actor, deployment=deployment, action=action)
        except WishRefused as refusal:
            messages.error(self.request, refusal.message)
        return redirect(self.request.path)

    def _deployment(self) -> Deployment:
        rows = Deployment.objects.select_related("price", "flavor__accelerator", "cluster__region", "plan")
        return get_object_or_404(
            rows, organization=self.actor.organization, public_id=self.kwargs["public_id"]
        )


def _memory_of(plan: Plan | None) -> dict[str, str]:
    """What a plan says of memory, in the unit that its checks speak of."""
    memory = plan.answer.get("memory") if plan is not None else None
    return {name: gib(memory[name]) for name in ("low", "high", "available")} if memory else {}


def live_deployments(page: PortalPage) -> Any:
    """The organization's deployments that are not gone, newest first."""
    rows = Deployment.objects.filter(organization=page.actor.organization, deleted_at__isnull=True)
    return rows.select_related("flavor", "cluster__region").order_by("-public_id")


def _newest_lines(deployment: Deployment) -> list[str]:
    try:
        lines = read_log(deployment, limit=NEWEST_LINES, tail=True)
    except ClusterError:
        return []
    return [line.text for line in lines]
