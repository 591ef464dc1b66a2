"""The one writer of what customers wish of fine-tuning jobs."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from deployments.reconcile.tasks import ring_on_commit
from deployments.serving.deletions import request_deletion
from deployments.serving.errors import WishRefused
from deployments.serving.events import record_wish
from deployments.serving.holdings import require_quota
from deployments.tuning.models import DesiredJobState, FineTuningJob, JobState
from deployments.tuning.plans import TuningPlan
from deployments.tuning.specs import tuning_spec
from marketplace.accounts import audit
from marketplace.accounts.actors import Actor
from marketplace.catalog.models import Model
from marketplace.catalog.removal import keep_model
from marketplace.ids import make_public_id


def create_job(*, actor: Actor, plan: TuningPlan) -> FineTuningJob:
    """Wishes for a job as planned. Raises WishRefused when its name cannot become a model's, or the quota
    has no room any more.
    """
    ask = plan.ask
    models = Model.objects.filter(deleted_at__isnull=True)
    taken = models.filter(publisher=actor.organization.slug, slug=ask.name).first()
    if taken is not None and taken.owner_id != actor.organization.pk:
        raise WishRefused(
            f"A model called {taken} already exists. Choose another name.", type="name-taken", field="name"
        )
    going = FineTuningJob.wished().filter(organization=actor.organization, name=ask.name).first()
    if going is not None:
        raise WishRefused(
            f"A job called {ask.name!r} is {going.state} ({going.public_id}). Wait for it, cancel it, or "
            "choose another name.",
            type="name-taken",
            field="name",
        )
    public_id = make_public_id("ftj")
    with transaction.atomic():
        if not keep_model(ask.base.model):
            raise WishRefused(
                f"{ask.base} was deleted by your organization meanwhile.", type="model-deleted", field="base"
            )
        job = FineTuningJob.objects.create(
            public_id=public_id,
            organization=actor.organization,
            name=ask.name,
            created_by=actor.name,
            recipe=plan.recipe,
            flavor=plan.pool.flavor,
            cluster=plan.pool.cluster,
            price=plan.price,
            base=ask.base,
            training_data=ask.training_data,
            validation_data=ask.validation_data,
            hyperparameters=ask.hyperparameters,
            spec=tuning_spec(
                job=public_id,
                organization=actor.organization.public_id,
                base=ask.base,
                recipe=plan.recipe,
                pool=plan.pool,
                training_path=ask.training_data.storage_path,
                validation_path=ask.validation_data.storage_path if ask.validation_data else "",
                hyperparameters=ask.hyperparameters,
            ).to_json(),
        )
        # The plan found room; another wish may have taken it since.
        require_quota(organization=actor.organization, wanted=[(job.flavor, 1)], besides=job)
        _announce(
            job,
            actor=actor,
            action="create",
            reason="Created",
            message=f"Asked to tune {ask.base.model.name} for {ask.hyperparameters['epochs']} epochs on "
            f"{ask.training_data.report['examples']} examples, on {plan.pool.flavor.name}.",
        )
    return job


def cancel_job(*, actor: Actor, job: FineTuningJob) -> FineTuningJob:
    """Wishes for the job to stop. Nothing after this moment is billed; what has ended stays as it is."""
    with transaction.atomic():
        row = FineTuningJob.objects.select_for_update(of=("self",)).get(pk=job.pk)
        if row.desired_state == DesiredJobState.CANCELLED:
            return row
        if row.state not in (JobState.QUEUED, JobState.RUNNING):
            raise WishRefused(f"The job has already {row.state}.", type="job-ended")
        row.desired_state = DesiredJobState.CANCELLED
        row.stop_requested_at = timezone.now()
        row.generation += 1
        row.save(update_fields=["desired_state", "stop_requested_at", "generation"])
        _announce(row, actor=actor, action="cancel", reason="CancelRequested", message="Asked to cancel.")
    return row


def delete_job(*, actor: Actor, job: FineTuningJob) -> FineTuningJob:
    """Wishes for nothing to be left of a job that has ended. The model that it made stays."""
    with transaction.atomic():
        row = FineTuningJob.objects.select_for_update(of=("self",)).get(pk=job.pk)
        if row.is_to_go:
            return row
        if row.state in (JobState.QUEUED, JobState.RUNNING):
            raise WishRefused(
                f"The job is {row.state}. Cancel it first, or wait until it has ended.", type="job-goes-on"
            )
        now = timezone.now()
        row.desired_state = DesiredJobState.DELETED
        row.stop_requested_at = row.stop_requested_at or now
        row.generation += 1
        row.save(update_fields=["desired_state", "stop_requested_at", "generation"])
        request_deletion(row, actor=actor.name, at=now)
        _announce(row, actor=actor, action="delete", reason="DeleteRequested", message="Asked to delete.")
    return row


def _announce(job: FineTuningJob, *, actor: Actor, action: str, reason: str, message: str) -> None:
    record_wish(job, actor=actor, reason=reason, message=message)
    audit.record(actor=actor, action=f"fine-tuning-job.{action}", target=job.public_id)
    ring_on_commit(job.public_id)
