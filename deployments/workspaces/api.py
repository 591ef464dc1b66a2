"""REST of workspaces."""

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

from deployments.serving.deletion_api import DeletionActions
from deployments.serving.refusals import refusals_as_problems
from deployments.serving.story_serializers import TimelinesSerializer
from deployments.serving.timelines import timelines
from deployments.serving.workload_api import LogActions, StoryActions
from deployments.workspaces import lifecycle
from deployments.workspaces.addresses import open_url
from deployments.workspaces.models import Workspace, WorkspaceState
from deployments.workspaces.serializers import TokenSerializer, WorkspaceAskSerializer, WorkspaceSerializer
from deployments.workspaces.starts import earlier_starts
from marketplace.accounts.models import Scope


class WorkspaceFilter(django_filters.FilterSet):  # type: ignore[misc]  # has no type hints
    state = django_filters.MultipleChoiceFilter(choices=WorkspaceState.choices)
    name = django_filters.CharFilter()
    framework = django_filters.CharFilter(field_name="framework__slug")


class WorkspaceViewSet(
    mixins.RetrieveModelMixin, mixins.ListModelMixin, DeletionActions, StoryActions, LogActions
):
    """Notebook servers of the organization. Lists show deleted ones only when asked for `state=deleted`."""

    queryset = Workspace.objects.select_related(
        "organization", "framework", "flavor__accelerator", "cluster__region", "price"
    )
    ordering = "-public_id"
    serializer_class = WorkspaceSerializer
    filterset_class = WorkspaceFilter
    shown_once: ClassVar[frozenset[str]] = frozenset({"token", "open_url"})
    required_scopes: ClassVar[dict[str, str]] = {
        "GET": Scope.READ,
        "POST": Scope.DEPLOY,
        "DELETE": Scope.DEPLOY,
    }

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        if self.action == "list" and WorkspaceState.DELETED not in self.request.query_params.getlist("state"):
            return rows.filter(deleted_at__isnull=True)
        return rows

    @extend_schema(request=WorkspaceAskSerializer, responses={201: WorkspaceSerializer})
    def create(self, request: Request) -> Response:
        """Starts a notebook server with a volume of its own."""
        asked = WorkspaceAskSerializer(data=request.data, context={"actor": self.actor})
        asked.is_valid(raise_exception=True)
        with refusals_as_problems():
            workspace = lifecycle.create_workspace(actor=self.actor, ask=asked.to_ask())
        return self._answer(workspace, status=status.HTTP_201_CREATED)

    @extend_schema(responses={202: WorkspaceSerializer})
    def destroy(self, request: Request, public_id: str) -> Response:
        """Removes the workspace with its volume: all notebooks and data on it are lost."""
        workspace = lifecycle.delete_workspace(actor=self.actor, workspace=self.get_object())
        return self._answer(workspace, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=WorkspaceSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, public_id: str) -> Response:
        """Ends the notebook server and keeps the volume; nothing after this moment is billed."""
        with refusals_as_problems():
            return self._answer(lifecycle.pause_workspace(actor=self.actor, workspace=self.get_object()))

    @extend_schema(request=None, responses=WorkspaceSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, public_id: str) -> Response:
        """Starts the notebook server again on the same volume."""
        with refusals_as_problems():
            return self._answer(lifecycle.resume_workspace(actor=self.actor, workspace=self.get_object()))

    @extend_schema(request=None, responses=TokenSerializer)
    @action(detail=True, methods=["post"])
    def token(self, request: Request, public_id: str) -> Response:
        """Shows the token that opens the workspace. Who asked is on record."""
        return self._token(self.get_object())

    @extend_schema(request=None, responses=TokenSerializer)
    @action(detail=True, methods=["post"], url_path="token/rotate")
    def rotate_token(self, request: Request, public_id: str) -> Response:
        """Replaces the token. The server starts again: what runs in its kernels is lost, files stay."""
        with refusals_as_problems():
            workspace = lifecycle.rotate_token(actor=self.actor, workspace=self.get_object())
        return self._token(workspace)

    @extend_schema(responses=TimelinesSerializer)
    @action(detail=True, methods=["get"], filterset_class=None)
    def timeline(self, request: Request, public_id: str) -> Response:
        """How the newest starts went or go, step by step, with what is expected."""
        found = timelines(self.get_object(), now=timezone.now(), earlier=earlier_starts)
        return Response(TimelinesSerializer({"items": found}).data)

    def _token(self, workspace: Workspace) -> Response:
        with refusals_as_problems():
            token = lifecycle.show_token(actor=self.actor, workspace=workspace)
        shown = {"token": token, "open_url": open_url(workspace.public_id, token=token)}
        return Response(TokenSerializer(shown).data, headers={"Cache-Control": "no-store"})

    def _answer(self, workspace: Workspace, *, status: int = status.HTTP_200_OK) -> Response:
        return Response(WorkspaceSerializer(workspace).data, status=status)
