"""REST of plans and deployments."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.serving import lifecycle
from deployments.serving.actions import apply_action
from deployments.serving.binding import OUTDATED, plan_again, require_current
from deployments.serving.deletion_api import DeletionActions
from deployments.serving.models import Deployment, DeploymentState, Plan
from deployments.serving.plan_serializers import PlanSerializer
from deployments.serving.plans import make_plan
from deployments.serving.refusals import refusals_as_problems
from deployments.serving.rollout_api import RolloutActions
from deployments.serving.rollout_serializers import DeploymentChangeSerializer
from deployments.serving.serializers import (
    DeploymentCreateSerializer,
    DeploymentSerializer,
    ServingAskSerializer,
)
from deployments.serving.story_serializers import ActionAskSerializer, TimelinesSerializer
from deployments.serving.timelines import timelines
from deployments.serving.workload_api import LogActions, StoryActions
from marketplace.accounts.models import Scope
from marketplace.rest.problems import Problem, invalid
from marketplace.rest.reading import ColumnListMixin
from marketplace.rest.views import OrganizationViewSet


class PlanViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, OrganizationViewSet):
    """What would it take? Answers fit, placement, quota, capacity, price and start time with reasons."""

    queryset = Plan.objects.all()
    serializer_class = PlanSerializer
    required_scopes: ClassVar[dict[str, str]] = {"GET": Scope.READ, "POST": Scope.DEPLOY}

    @extend_schema(request=ServingAskSerializer, responses={201: PlanSerializer})
    def create(self, request: Request) -> Response:
        asked = ServingAskSerializer(data=request.data, context={"actor": self.actor})
        asked.is_valid(raise_exception=True)
        plan = make_plan(actor=self.actor, ask=asked.to_ask())
        return Response(PlanSerializer(plan).data, status=status.HTTP_201_CREATED)


class DeploymentFilter(django_filters.FilterSet):  # type: ignore[misc]  # has no type hints
    state = django_filters.MultipleChoiceFilter(choices=DeploymentState.choices)
    name = django_filters.CharFilter()
    flavor = django_filters.CharFilter(field_name="flavor__slug")
    region = django_filters.CharFilter(field_name="cluster__region__slug")


class DeploymentViewSet(
    mixins.RetrieveModelMixin, ColumnListMixin, RolloutActions, DeletionActions, StoryActions, LogActions
):
    """Models served for the organization. Lists show deleted ones only when asked for `state=deleted`."""

    queryset = Deployment.objects.select_related("plan", "flavor__accelerator", "cluster__region", "price")
    ordering = "-public_id"
    serializer_class = DeploymentSerializer
    filterset_class = DeploymentFilter
    required_scopes: ClassVar[dict[str, str]] = {
        "GET": Scope.READ,
        "POST": Scope.DEPLOY,
        "PATCH": Scope.DEPLOY,
        "DELETE": Scope.DEPLOY,
    }

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        if self.action == "list" and DeploymentState.DELETED not in self.request.query_params.getlist(
            "state"
        ):
            return rows.filter(deleted_at__isnull=True)
        return rows

    @extend_schema(request=DeploymentCreateSerializer, responses={201: DeploymentSerializer})
    def create(self, request: Request) -> Response:
        asked = DeploymentCreateSerializer(data=request.data, context={"actor": self.actor})
        asked.is_valid(raise_exception=True)
        plan = self._planned(asked)
        with refusals_as_problems():
            deployment = lifecycle.create_deployment(
                actor=self.actor, plan=plan, name=asked.validated_data["name"]
            )
        return self._answer(deployment, status=status.HTTP_201_CREATED)

    def _planned(self, asked: DeploymentCreateSerializer) -> Plan:
        reference = asked.validated_data.get("plan")
        if reference is None:
            return make_plan(actor=self.actor, ask=asked.to_ask())
        plan = Plan.objects.filter(organization=self.actor.organization, public_id=reference).first()
        if plan is None:
            raise invalid([{"field": "plan", "message": f"No plan of yours is called {reference!r}."}])
        with refusals_as_problems():
            require_current(plan)
        return plan

    def handle_exception(self, exc: Exception) -> Response:
        """An outdated plan is answered with a new one to accept.

        Made here, because what the handler wrote is rolled back with its refusal.
        """
        if isinstance(exc, Problem) and exc.type in OUTDATED:
            fresh = plan_again(str(exc.extra["plan"]), actor=self.actor)
            exc.extra["fresh_plan"] = PlanSerializer(fresh).data
        return super().handle_exception(exc)

    @extend_schema(request=DeploymentChangeSerializer, responses=DeploymentSerializer)
    def partial_update(self, request: Request, public_id: str) -> Response:
        deployment = self.get_object()
        asked = DeploymentChangeSerializer(
            data=request.data, context={"actor": self.actor, "deployment": deployment}
        )
        asked.is_valid(raise_exception=True)
        plan = make_plan(actor=self.actor, ask=asked.to_ask(), besides=deployment)
        with refusals_as_problems():
            return self._answer(
                lifecycle.update_deployment(
                    actor=self.actor, deployment=deployment, plan=plan, rollout=asked.to_rollout()
                )
            )

    @extend_schema(responses={202: DeploymentSerializer})
    def destroy(self, request: Request, public_id: str) -> Response:
        deployment = lifecycle.delete_deployment(actor=self.actor, deployment=self.get_object())
        return self._answer(deployment, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, public_id: str) -> Response:
        with refusals_as_problems():
            return self._answer(lifecycle.pause_deployment(actor=self.actor, deployment=self.get_object()))

    @extend_schema(request=None, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, public_id: str) -> Response:
        with refusals_as_problems():
            return self._answer(lifecycle.resume_deployment(actor=self.actor, deployment=self.get_object()))

    @extend_schema(request=ActionAskSerializer, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"], url_path="actions", filterset_class=None)
    def apply_action(self, request: Request, public_id: str) -> Response:
        """Does one of the actions that `explanation` offers. The same one again changes nothing more."""
        deployment = self.get_object()
        asked = ActionAskSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with refusals_as_problems():
            changed = apply_action(
                actor=self.actor, deployment=deployment, action=asked.validated_data["action"]
            )
        return self._answer(changed)

    @extend_schema(responses=TimelinesSerializer)
    @action(detail=True, methods=["get"], filterset_class=None)
    def timeline(self, request: Request, public_id: str) -> Response:
        """How the newest replicas started or are starting, step by step, with what is expected."""
        found = timelines(self.get_object(), now=timezone.now())
        return Response(TimelinesSerializer({"items": found}).data)

    def _answer(self, deployment: Deployment, *, status: int = status.HTTP_200_OK) -> Response:
        return Response(DeploymentSerializer(deployment).data, status=status)
