"""REST of what every workload has: its story, its deaths and its logs. Also after it is gone."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.clusters.errors import ClusterError
from deployments.serving.logs import BUSY_SECONDS, LogsBusy, read_log
from deployments.serving.models import Event, PostMortem
from deployments.serving.story_serializers import EventSerializer, LogSerializer, PostMortemSerializer
from marketplace.rest.problems import Problem, invalid
from marketplace.rest.views import OrganizationViewSet

LONGEST_LOG = 1000
LONGEST_NUMBER = 18
"""Digits. Python refuses to read a number of thousands."""


class StoryActions(OrganizationViewSet):
    """What was asked and what happened."""

    @extend_schema(responses=EventSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None)
    def events(self, request: Request, public_id: str) -> Response:
        """What was asked and what happened, the newest first."""
        rows = Event.objects.filter(resource=self.get_object().public_id)
        return self.page_of(rows, EventSerializer)

    @extend_schema(responses=PostMortemSerializer(many=True))
    @action(detail=True, methods=["get"], filterset_class=None, url_path="post-mortems")
    def post_mortems(self, request: Request, public_id: str) -> Response:
        """What is known of replicas that died, the newest first; also after the deletion."""
        rows = PostMortem.objects.filter(resource=self.get_object().public_id)
        return self.page_of(rows, PostMortemSerializer)


class LogActions(OrganizationViewSet):
    """What containers printed."""

    @extend_schema(
        parameters=[
            OpenApiParameter("after", int, description="Number of the last line already read."),
            OpenApiParameter("replica", str, description="Uid of a replica; the newest one if left out."),
            OpenApiParameter(
                "tail", int, description=f"The last so many lines, at most {LONGEST_LOG}, not the first."
            ),
        ],
        responses=LogSerializer,
    )
    @action(detail=True, methods=["get"], filterset_class=None)
    def logs(self, request: Request, public_id: str) -> Response:
        """Lines that a replica printed, oldest first; they stay readable after it is gone."""
        workload: Any = self.get_object()
        after = request.query_params.get("after", "0")
        if not after.isdecimal() or len(after) > LONGEST_NUMBER:
            raise invalid([{"field": "after", "message": f"{after[:40]!r} is not a line number."}])
        tail = request.query_params.get("tail")
        if tail is not None and not (
            tail.isdecimal() and len(tail) <= LONGEST_NUMBER and 1 <= int(tail) <= LONGEST_LOG
        ):
            message = f"{tail[:40]!r} is not a number of lines from 1 to {LONGEST_LOG}."
            raise invalid([{"field": "tail", "message": message}])
        try:
            lines = read_log(
                workload,
                replica=request.query_params.get("replica"),
                after=int(after),
                limit=int(tail) if tail else LONGEST_LOG,
                tail=tail is not None,
            )
        except LogsBusy as error:
            raise Problem(
                status=503,
                type="logs-busy",
                title="Too many logs are being read",
                detail="As many logs are being read as may be at once; try again in a moment.",
                headers={"Retry-After": f"{BUSY_SECONDS:.0f}"},
            ) from error
        except ClusterError as error:
            raise Problem(
                status=503,
                type="cluster-unreachable",
                title="Cluster does not answer",
                detail="The logs cannot be read right now; try again in a minute.",
                headers={"Retry-After": "10"},
            ) from error
        return Response(
            {
                "items": [{"number": line.number, "text": line.text} for line in lines],
                "next_after": lines[-1].number if lines else int(after),
            }
        )
