"""REST of revisions: list them, preview a change, go back, promote a canary, take an update back."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.serving import revising
from deployments.serving.models import Deployment
from deployments.serving.plans import make_plan
from deployments.serving.previews import preview_rollback, preview_update
from deployments.serving.refusals import refusals_as_problems
from deployments.serving.rollout_serializers import (
    DeploymentChangeSerializer,
    PreviewSerializer,
    RevisionSerializer,
    RollbackAnswerSerializer,
    RollbackSerializer,
)
from deployments.serving.serializers import DeploymentSerializer
from marketplace.rest.views import OrganizationViewSet

MOST_TAKEN_BACK = 20
"""Revisions in a row that are looked through for the one that the next was changed from."""


class RolloutActions(OrganizationViewSet):
    """What is done with the revisions of one deployment."""

    @extend_schema(responses=RevisionSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None, ordering="-number")
    def revisions(self, request: Request, public_id: str) -> Response:
        """Every specification that the deployment has had, the newest first, and what changed with each."""
        deployment: Deployment = self.get_object()
        rows = deployment.revisions.select_related("version", "flavor", "price")
        page: Any = self.paginate_queryset(rows)
        # The oldest of the page is compared with the one before, which updates that were taken back may part.
        oldest = min((revision.number for revision in page), default=0)
        earlier = rows.filter(number__range=(oldest - MOST_TAKEN_BACK, oldest - 1))
        known = {revision.number: revision for revision in (*earlier, *page)}
        context = {"deployment": deployment, "revisions": known}
        return self.get_paginated_response(RevisionSerializer(page, many=True, context=context).data)

    @extend_schema(request=DeploymentChangeSerializer, responses=PreviewSerializer)
    @action(detail=True, methods=["post"], filterset_class=None)
    def preview(self, request: Request, public_id: str) -> Response:
        """What a change would mean: differences, price, room and downtime. Takes what PATCH takes."""
        deployment: Deployment = self.get_object()
        asked = DeploymentChangeSerializer(
            data=request.data, context={"actor": self.actor, "deployment": deployment}
        )
        asked.is_valid(raise_exception=True)
        plan = make_plan(actor=self.actor, ask=asked.to_ask(), besides=deployment)
        return Response(preview_update(deployment, plan=plan, rollout=asked.to_rollout()))

    @extend_schema(request=RollbackSerializer, responses=RollbackAnswerSerializer)
    @action(detail=True, methods=["post"], filterset_class=None)
    def rollback(self, request: Request, public_id: str) -> Response:
        """Goes back to an earlier specification, as a revision with a new number and at today's price."""
        deployment: Deployment = self.get_object()
        asked = RollbackSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        rollout, dry_run = asked.to_rollout(), asked.validated_data["dry_run"]
        answer: dict[str, Any] = {"dry_run": dry_run, "deployment": None}
        with refusals_as_problems():
            rollback = revising.plan_rollback(
                actor=self.actor, deployment=deployment, number=asked.validated_data["revision"]
            )
            answer["preview"] = preview_rollback(deployment, rollback=rollback, rollout=rollout)
            if not dry_run:
                changed = revising.roll_back(
                    actor=self.actor, deployment=deployment, rollback=rollback, rollout=rollout
                )
                answer["deployment"] = DeploymentSerializer(changed).data
        return Response(answer)

    @extend_schema(request=None, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"], filterset_class=None)
    def promote(self, request: Request, public_id: str) -> Response:
        """Lets the canary take over: it gets all replicas, then the stable revision goes."""
        with refusals_as_problems():
            deployment = revising.promote_canary(actor=self.actor, deployment=self.get_object())
        return Response(DeploymentSerializer(deployment).data)

    @extend_schema(request=None, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"], filterset_class=None)
    def abort(self, request: Request, public_id: str) -> Response:
        """Takes an update back, a canary or any other: the revision that serves stays."""
        with refusals_as_problems():
            deployment = revising.abort_update(actor=self.actor, deployment=self.get_object())
        return Response(DeploymentSerializer(deployment).data)
