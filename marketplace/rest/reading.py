"""Documents that are only answered, read straight from the columns.

REST framework copies every declared field for each answer and asks each of them how to show its value, and
Django makes an object of every row and of each row beside it: for a page of fifty, most of the work. Here the
way to each value is looked up once for a class, text, numbers and stored JSON go out as they are, and a list
asks the database for the columns that it shows and for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request
from rest_framework.response import Response

T = TypeVar("T")
Read = Callable[[Any, Any], Any]
"""From a serializer and a row to the value of one field."""


class ReadSerializer(serializers.Serializer[T]):
    """Shows a row. Fields say name, source and type, as always; nested documents have to be JSON already."""

    method_columns: ClassVar[tuple[str, ...]] = ()
    """What the `get_…` methods read, as lookups: "price__currency"."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {name: read(self, instance) for name, read in _readers(type(self))}


class ColumnListMixin:
    """Lists with a `ReadSerializer`, one query a page and no model objects."""

    def list(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer_class()
        rows: QuerySet[Any] = self.filter_queryset(self.get_queryset())
        model: type[Model] = rows.model
        columns = _columns(serializer, model)
        # A list needs no related objects, and would not take them.
        page = self.paginate_queryset(rows.select_related(None).values(*columns))
        shown = serializer()
        answer: Response = self.get_paginated_response(
            [shown.to_representation(_row(columns, values)) for values in page]
        )
        return answer


@cache
def _columns(serializer: type[ReadSerializer[Any]], model: type[Model]) -> tuple[str, ...]:
    """The lookups of all columns that a serializer shows of a model."""
    sources = [
        (field.source or name).split(".")
        for name, field in _declared(serializer).items()
        if not isinstance(field, serializers.SerializerMethodField)
    ]
    return tuple(dict.fromkeys([*(_column(path, model) for path in sources), *serializer.method_columns]))


def _column(path: list[str], model: type[Model]) -> str:
    """Follows relations up to a column; what comes after it are members of stored JSON."""
    found = []
    for part in path:
        found.append(part)
        field = model._meta.get_field(part)
        if field.related_model is None:
            break
        assert isinstance(field.related_model, type)
        model = field.related_model
    return "__".join(found)


def _row(columns: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """Values as attributes, those of related rows one step below: `row.price.currency`."""
    row = SimpleNamespace()
    top = row.__dict__
    for column in columns:
        place, _, name = column.rpartition("__")
        if not place:
            top[column] = values[column]
            continue
        at = top
        for part in place.split("__"):
            if part not in at:
                at[part] = SimpleNamespace()
            at = at[part].__dict__
        at[name] = values[column]
    return row


def _declared(
    serializer: type[ReadSerializer[Any]],
) -> Mapping[str, serializers.Field[Any, Any, Any, Any]]:
    fields: Mapping[str, serializers.Field[Any, Any, Any, Any]] = serializer._declared_fields
    return fields


@cache
def _readers(serializer: type[ReadSerializer[Any]]) -> tuple[tuple[str, Read], ...]:
    return tuple((name, _reader(serializer, name, field)) for name, field in _declared(serializer).items())


def _reader(
    serializer: type[ReadSerializer[Any]], name: str, field: serializers.Field[Any, Any, Any, Any]
) -> Read:
    if isinstance(field, serializers.SerializerMethodField):
        method: Read = getattr(serializer, field.method_name or f"get_{name}")
        return method
    path = (field.source or name).split(".")
    value: Callable[[Any], Any] = attrgetter(path[0]) if len(path) == 1 else _walk(path)
    if field.default is not empty:
        value = _or(value, field.default)
    if isinstance(field, serializers.DateTimeField):
        return lambda _, row: _moment(value(row))
    return lambda _, row: value(row)


def _walk(path: list[str]) -> Callable[[Any], Any]:
    """Follows attributes of rows and members of JSON objects."""

    def walk(value: Any) -> Any:
        for part in path:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        return value

    return walk


def _or(read: Callable[[Any], Any], default: Any) -> Callable[[Any], Any]:
    """The value, or the default where something on the way to it is missing."""

    def read_or_default(row: Any) -> Any:
        try:
            return read(row)
        except (AttributeError, KeyError, ObjectDoesNotExist):
            return default() if callable(default) else default

    return read_or_default


def _moment(value: datetime | None) -> str | None:
    """As REST framework writes it: ISO 8601 in UTC with a Z."""
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
