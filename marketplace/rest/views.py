"""What every REST view begins with: the actor, the organization's own rows, public ids, idempotent POST."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from marketplace.accounts.actors import Actor, actor_of
from marketplace.rest import idempotency
from marketplace.rest.problems import not_found


class ActorView(APIView):
    """A view on behalf of an actor. Declares `required_scopes`; POST takes an Idempotency-Key."""

    required_scopes: ClassVar[dict[str, str]] = {}
    shown_once: ClassVar[frozenset[str]] = frozenset()
    """Members of an answer to POST that a repetition does not get again, because they are stored nowhere."""

    @property
    def actor(self) -> Actor:
        return actor_of(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        key = request.headers.get(idempotency.HEADER)
        handler = getattr(self, "post", None)
        if request.method == "POST" and key is not None and handler is not None:
            run = functools.partial(
                idempotency.run_once, handler, key=key, actor=self.actor, shown_once=self.shown_once
            )
            setattr(self, "post", run)  # noqa: B010  (this view object serves this request only)


class SharedViewSet(ActorView, GenericViewSet[Any]):
    """Objects that every customer sees, such as the catalog; looked up by public id."""

    lookup_field = "public_id"

    def get_object(self) -> Any:
        # PostgreSQL takes no NUL in a text, and no id has one: it is simply not there.
        if any("\x00" in str(value) for value in self.kwargs.values()):
            raise not_found()
        return super().get_object()


class OrganizationViewSet(SharedViewSet):
    """Objects of the actor's organization. Another's are not there, exactly as if they never were."""

    organization_field: ClassVar[str] = "organization"
    """Lookup from the model to its organization, for example `deployment__organization`."""

    def get_queryset(self) -> QuerySet[Model]:
        queryset: QuerySet[Model] = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return queryset.none()  # drf-spectacular asks without a request
        return queryset.filter(**{self.organization_field: self.actor.organization})

    def page_of(self, rows: QuerySet[Any], serializer: Any) -> Response:
        """The answer of a list below an object, page by page."""
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(serializer(page, many=True).data)
