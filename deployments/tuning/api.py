"""REST of datasets and fine-tuning jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.serving.deletion_api import DeletionActions
from deployments.serving.refusals import refusals_as_problems
from deployments.serving.workload_api import StoryActions
from deployments.tuning import lifecycle
from deployments.tuning.datasets import DatasetRefused, add_dataset, delete_dataset
from deployments.tuning.models import Dataset, DesiredJobState, FineTuningJob, JobState
from deployments.tuning.plans import TuningPlan, plan_tuning
from deployments.tuning.serializers import (
    CheckpointSerializer,
    DatasetSerializer,
    DatasetUploadSerializer,
    EstimateSerializer,
    JobAskSerializer,
    JobDetailSerializer,
    JobSerializer,
    TrainingEventSerializer,
)
from marketplace.accounts.models import Scope
from marketplace.rest.problems import Problem
from marketplace.rest.views import OrganizationViewSet


class DatasetViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, OrganizationViewSet):
    """Chat examples to tune with. A file with errors is refused whole, with every error by line."""

    queryset = Dataset.objects.filter(deleted_at__isnull=True)
    serializer_class = DatasetSerializer
    parser_classes = (MultiPartParser,)
    required_scopes: ClassVar[dict[str, str]] = {
        "GET": Scope.READ,
        "POST": Scope.TUNE,
        "DELETE": Scope.TUNE,
    }

    @extend_schema(
        request={"multipart/form-data": DatasetUploadSerializer}, responses={201: DatasetSerializer}
    )
    def create(self, request: Request) -> Response:
        """Uploads a JSONL file: one {"messages": [{"role", "content"}, …]} a line.

        A second file under the same name is the dataset's next version.
        """
        asked = DatasetUploadSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            version = add_dataset(
                actor=self.actor,
                name=asked.validated_data["name"],
                chunks=asked.validated_data["file"].chunks(),
            )
        except DatasetRefused as refused:
            raise _dataset_problem(refused) from refused
        document = DatasetSerializer(version.dataset, context={"version": version}).data
        return Response(document, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, public_id: str) -> Response:
        """Takes the dataset out of lists and new jobs. Its files go once no job that runs reads them."""
        with refusals_as_problems():
            delete_dataset(actor=self.actor, dataset=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class JobFilter(django_filters.FilterSet):  # type: ignore[misc]  # has no type hints
    state = django_filters.MultipleChoiceFilter(choices=JobState.choices)
    name = django_filters.CharFilter()


class FineTuningJobViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, DeletionActions, StoryActions):
    """Tunes a model on a dataset. The result is a private model that deploys like any other."""

    queryset = FineTuningJob.objects.select_related(
        "base",
        "training_data",
        "validation_data",
        "flavor__accelerator",
        "cluster__region",
        "price",
        "result",
        "organization",
    )
    ordering = "-public_id"
    filterset_class = JobFilter
    required_scopes: ClassVar[dict[str, str]] = {
        "GET": Scope.READ,
        "POST": Scope.TUNE,
        "DELETE": Scope.TUNE,
    }

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        # One that was deleted is found by its id for good: its receipt is.
        return rows.exclude(desired_state=DesiredJobState.DELETED) if self.action == "list" else rows

    def get_serializer_class(self) -> type[JobSerializer]:
        return JobSerializer if self.action == "list" else JobDetailSerializer

    @extend_schema(request=JobAskSerializer, responses={201: JobDetailSerializer})
    def create(self, request: Request) -> Response:
        with refusals_as_problems():
            job = lifecycle.create_job(actor=self.actor, plan=self._plan(request))
        return Response(JobDetailSerializer(job).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=JobAskSerializer, responses=EstimateSerializer)
    @action(detail=False, methods=["post"])
    def estimate(self, request: Request) -> Response:
        """What the job would take: time, cost and memory. Changes nothing."""
        with refusals_as_problems():
            return Response(_estimate_json(self._plan(request)))

    @extend_schema(responses={202: JobDetailSerializer})
    def destroy(self, request: Request, public_id: str) -> Response:
        """Removes a job that has ended, with its checkpoints and logs. The model that it made stays."""
        with refusals_as_problems():
            job = lifecycle.delete_job(actor=self.actor, job=self.get_object())
        return Response(JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, public_id: str) -> Response:
        """Stops the job; nothing after this moment is billed."""
        with refusals_as_problems():
            job = lifecycle.cancel_job(actor=self.actor, job=self.get_object())
        return Response(JobDetailSerializer(job).data)

    @extend_schema(responses=TrainingEventSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None, url_path="training-events", ordering="-id")
    def training_events(self, request: Request, public_id: str) -> Response:
        """What the run reported: losses, tokens, checkpoints; the newest first."""
        return self.page_of(self.get_object().training_events.all(), TrainingEventSerializer)

    @extend_schema(responses=CheckpointSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None)
    def checkpoints(self, request: Request, public_id: str) -> Response:
        """States that the run can continue from."""
        return self.page_of(self.get_object().checkpoints.all(), CheckpointSerializer)

    def _plan(self, request: Request) -> TuningPlan:
        asked = JobAskSerializer(data=request.data, context={"actor": self.actor})
        asked.is_valid(raise_exception=True)
        return plan_tuning(asked.to_ask(), organization=self.actor.organization)


def _dataset_problem(refused: DatasetRefused) -> Problem:
    verdict = refused.verdict
    first = verdict.errors[0]
    more = f" (and {verdict.error_count - 1} more errors)" if verdict.error_count > 1 else ""
    place = f", {first.field}" if first.field else ""
    return Problem(
        status=400,
        type="dataset-invalid",
        title="Dataset refused",
        detail=f"Line {first.line}{place}: {first.message}{more}",
        errors=[
            {"field": f"file.{error.line}.{error.field}".rstrip("."), "message": error.message}
            for error in verdict.errors
        ],
        lines=verdict.errors_json(),
        error_count=verdict.error_count,
    )


def _estimate_json(plan: TuningPlan) -> dict[str, Any]:
    values = asdict(plan.estimate)
    return EstimateSerializer(
        {
            **values,
            "flavor": plan.pool.flavor.slug,
            "region": plan.pool.cluster.region.slug,
            "currency": plan.price.currency,
            "memory_bytes": plan.memory_bytes,
            "memory_available_bytes": plan.available_bytes,
        }
    ).data
