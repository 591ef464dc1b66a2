"""Lists by cursor: stable while rows come and go, and as fast on the last page as on the first."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import QuerySet
from rest_framework import exceptions, pagination
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.rest.problems import invalid


class CursorPagination(pagination.CursorPagination):
    """{"items": […], "next": url or null, "previous": …}; newest first unless the view has `ordering`.

    Public ids sort by time and are unique, which a cursor needs, and they keep database keys out of URLs.
    """

    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    page_size_query_description = f"Items on a page, 1 to {max_page_size}; {page_size} unless told."
    cursor_query_description = "Where the page begins: follow `next` and `previous`, never make one."

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        ordering = getattr(view, "ordering", None)
        if ordering:
            return (ordering,) if isinstance(ordering, str) else tuple(ordering)
        try:
            queryset.model._meta.get_field("public_id")
        except FieldDoesNotExist:
            return ("pk",)
        return ("-public_id",)

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get("page_size")
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= self.max_page_size):
            message = f"{text[:40]!r} is not usable: write a number from 1 to {self.max_page_size}."
            raise invalid([{"field": "page_size", "message": message}])
        return int(text)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (exceptions.NotFound, ValueError, DjangoValidationError) as error:
            # A cursor that was made up may also hold a value that its column cannot have.
            if self.cursor_query_param not in request.query_params:
                raise
            message = "This is no cursor of ours: follow 'next' and 'previous' of a page."
            raise invalid([{"field": self.cursor_query_param, "message": message}]) from error

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"items": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["items", "next", "previous"],
            "properties": {"items": schema, "next": link, "previous": link},
        }
