"""Filters of lists. A misspelt one is refused: silently ignored, it would answer with everything."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework.request import Request

from marketplace.rest.pagination import CursorPagination
from marketplace.rest.problems import invalid
from marketplace.rest.serializers import unknown_field

PAGING = frozenset({CursorPagination.cursor_query_param, str(CursorPagination.page_size_query_param)})


@extend_schema_field(OpenApiTypes.BOOL)
class YesNoFilter(filters.TypedChoiceFilter):  # type: ignore[misc]  # the library has no types
    """`true` or `false`. The library's own boolean filter takes any other text for no filter at all."""

    def __init__(self, **options: Any) -> None:
        choices = (("true", "Yes"), ("false", "No"))
        super().__init__(choices=choices, coerce=lambda text: text == "true", **options)


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # the library has no types
    """django-filter, refusing query parameters that the list does not know.

    A view that reads further parameters by itself names them in `query_parameters`.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        if getattr(view, "action", None) == "list":
            self._refuse_unknown(request, queryset, view)
            if PAGING.issuperset(request.query_params):
                return queryset  # nothing is asked for, and making forms of filters takes longer than to look
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered

    def _refuse_unknown(self, request: Request, queryset: QuerySet[Any], view: Any) -> None:
        filterset = self.get_filterset_class(view, queryset)
        known = PAGING | set(getattr(view, "query_parameters", ()))
        if filterset is not None:
            known |= set(filterset.base_filters)
        wrong = [name for name in request.query_params if name not in known]
        if wrong:
            raise invalid([{"field": name, "message": unknown_field(name, known)} for name in sorted(wrong)])
