"""The portal's pages of fine-tuning: data, jobs, and how a job goes."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from deployments.serving.errors import WishRefused
from deployments.serving.explanations import live_explanation
from deployments.serving.models import Event
from deployments.serving.postmortems import newest_post_mortems
from deployments.serving.workload import DELETED
from deployments.tuning import lifecycle
from deployments.tuning.datasets import DatasetRefused, add_dataset
from deployments.tuning.forms import JobForm, UploadForm
from deployments.tuning.models import Dataset, FineTuningJob, JobState
from deployments.tuning.plans import plan_tuning
from marketplace.accounts.models import Scope
from marketplace.billing.usage import Selection, make_statement
from marketplace.web.pages import PortalPage

NEWEST_EVENTS = 20
ERRORS_SHOWN = 5


class FineTuningPage(PortalPage):
    """Datasets and jobs, and the forms that add to them."""

    template_name = "tuning/fine_tuning.html"
    post_scope: ClassVar[str] = Scope.TUNE

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        organization = self.actor.organization
        return super().get_context_data(**context) | {
            "datasets": Dataset.objects.filter(organization=organization, deleted_at=None).order_by("name"),
            "jobs": jobs_of(self).exclude(desired_state=DELETED).order_by("-public_id"),
            "upload": context.get("upload") or UploadForm(prefix="upload"),
            "ask": context.get("ask") or JobForm(actor=self.actor, prefix="job"),
        }

    def post(self, request: HttpRequest) -> HttpResponseBase:
        if request.POST.get("action") == "upload":
            return self._upload(UploadForm(request.POST, request.FILES, prefix="upload"))
        return self._start(JobForm(request.POST, actor=self.actor, prefix="job"))

    def _upload(self, form: UploadForm) -> HttpResponseBase:
        if form.is_valid():
            try:
                version = add_dataset(
                    actor=self.actor,
                    name=form.cleaned_data["name"],
                    chunks=form.cleaned_data["file"].chunks(),
                )
            except DatasetRefused as refused:
                for error in refused.verdict.errors[:ERRORS_SHOWN]:
                    place = f", {error.field}" if error.field else ""
                    form.add_error("file", f"Line {error.line}{place}: {error.message}")
            else:
                messages.success(self.request, f"{version.dataset.name} is stored.")
                return redirect(self.request.path)
        return self.render_to_response(self.get_context_data(upload=form))

    def _start(self, form: JobForm) -> HttpResponseBase:
        asked = form.to_ask() if form.is_valid() else None
        if asked is not None:
            try:
                plan = plan_tuning(asked.to_ask(), organization=self.actor.organization)
                job = lifecycle.create_job(actor=self.actor, plan=plan)
            except WishRefused as refusal:
                form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
            else:
                return redirect(reverse("fine-tuning-job", args=[job.public_id]))
        return self.render_to_response(self.get_context_data(ask=form))


class JobPage(PortalPage):
    """One job: how far it is, what it has cost, what happened."""

    template_name = "tuning/job.html"
    post_scope: ClassVar[str] = Scope.TUNE

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        job = self._job()
        selection = Selection(organization=job.organization, resource=job.public_id)
        return super().get_context_data(**context) | {
            "job": job,
            "explanation": live_explanation(job),
            "post_mortems": newest_post_mortems(job),
            "going": job.state in (JobState.QUEUED, JobState.RUNNING),
            "statement": make_statement(selection, now=timezone.now()),
            "events": Event.objects.filter(resource=job.public_id).order_by("-id")[:NEWEST_EVENTS],
        }

    def post(self, request: HttpRequest, public_id: str) -> HttpResponse:
        act = lifecycle.delete_job if request.POST.get("action") == "delete" else lifecycle.cancel_job
        try:
            act(actor=self.actor, job=self._job())
        except WishRefused as refusal:
            messages.error(request, refusal.message)
        return redirect(request.path)

    def _job(self) -> FineTuningJob:
        return get_object_or_404(jobs_of(self), public_id=self.kwargs["public_id"])


def jobs_of(page: PortalPage) -> QuerySet[FineTuningJob]:
    """The organization's jobs."""
    rows = FineTuningJob.objects.filter(organization=page.actor.organization)
    return rows.select_related(
        "base__model",
        "cluster",
        "flavor__accelerator",
        "result__model",
        "training_data__dataset",
        "organization",
    )
