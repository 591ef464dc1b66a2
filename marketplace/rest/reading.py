"""Documents that are only answered, read straight from the columns.

REST framework copies every declared field for each answer and asks each of them how to show its value, and
Django makes an object of every row and of each row beside it: for a page of fifty, most of the work. Here the
way to each value is looked up once for a class, text, numbers and stored JSON go out as they are, and a list
asks the database for the columns that it shows and for no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter, itemgetter
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import orjson
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import JSONField, Model, QuerySet
from django.db.models.query import NamedValuesListIterable
from django.db.models.utils import create_namedtuple_class
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
        rows = rows.select_related(None).values_list(*columns.lookups, named=True)
        rows._iterable_class = _AsStored
        show = columns.shower(serializer())
        answer: Response = self.get_paginated_response(
            [show(values) for values in self.paginate_queryset(rows)]
        )
        return answer


class _AsStored(NamedValuesListIterable):
    """Rows as the driver gives them: stored JSON stays text, which most of it leaves as."""

    def __iter__(self) -> Iterator[Any]:
        queryset: Any = self.queryset
        compiler = queryset.query.get_compiler(queryset.db)
        row_class = create_namedtuple_class(*queryset._fields)
        for chunk in compiler.execute_sql(chunked_fetch=self.chunked_fetch):
            yield from map(row_class._make, chunk)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """What a list asks the database for, and what becomes of it."""

    lookups: tuple[str, ...]
    """Columns of the rows themselves first, then those of related rows."""
    names: tuple[str, ...]
    """Of the document's members, in order."""
    places: tuple[int, ...]
    """Member -> the column that it shows, as it is; for members that are made otherwise any column."""
    stored: tuple[tuple[str, int], ...]
    """Members that show stored JSON whole, and its column."""
    made: tuple[tuple[str, Read], ...]
    """Members that are made from a row."""
    parsed: tuple[int, ...]
    """Columns of stored JSON that those look into."""
    related: tuple[tuple[tuple[str, ...], str, int], ...]
    """Columns of related rows that those look at: the way to the row, the column's name, its place."""

    def shower(self, serializer: ReadSerializer[Any]) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Makes the document of a row."""
        names, pick = self.names, itemgetter(*self.places)
        stored, made = self.stored, self.made

        def show(values: Sequence[Any]) -> dict[str, Any]:
            document = dict(zip(names, pick(values), strict=True))
            for name, place in stored:
                if values[place] is not None:
                    document[name] = orjson.Fragment(values[place])
            if made:
                row = self._row(values)
                for name, read in made:
                    document[name] = read(serializer, row)
            return document

        return show

    def _row(self, values: Sequence[Any]) -> Any:
        """Values as attributes, those of related rows one step below: `row.price.currency`."""
        row = SimpleNamespace()
        row.__dict__.update(zip(self.lookups, values, strict=True))
        for place in self.parsed:
            if values[place] is not None:
                row.__dict__[self.lookups[place]] = json.loads(values[place])
        for way, name, place in self.related:
            at = row.__dict__
            for part in way:
                if part not in at:
                    at[part] = SimpleNamespace()
                at = at[part].__dict__
            at[name] = row.__dict__[self.lookups[place]]
        return row


@cache
def _columns(serializer: type[ReadSerializer[Any]], model: type[Model]) -> _Columns:
    """How a list of a model is shown by a serializer."""
    fields = _declared(serializer)
    sources = {
        name: _column((field.source or name).split("."), model)
        for name, field in fields.items()
        if not isinstance(field, serializers.SerializerMethodField)
    }
    looked_at = [*serializer.method_columns]
    whole = {}  # members that show a column as it is
    for name, (lookup, column, members) in sources.items():
        if members:
            looked_at.append(lookup)
        else:
            whole[name] = (lookup, column)
    lookups = tuple(
        sorted(dict.fromkeys([*(lookup for lookup, *_ in sources.values()), *looked_at]), key=_depth)
    )
    readers = dict(_readers(serializer))
    return _Columns(
        lookups=lookups,
        names=tuple(fields),
        places=tuple(lookups.index(whole[name][0]) if name in whole else 0 for name in fields),
        stored=tuple(
            (name, lookups.index(lookup))
            for name, (lookup, column) in whole.items()
            if isinstance(column, JSONField)
        ),
        made=tuple((name, readers[name]) for name in fields if name not in whole),
        parsed=tuple(
            lookups.index(lookup)
            for lookup in dict.fromkeys(looked_at)
            if isinstance(_column(lookup.split("__"), model)[1], JSONField)
        ),
        related=tuple(
            (tuple(way), name, lookups.index(lookup))
            for lookup in dict.fromkeys(looked_at)
            for *way, name in [lookup.split("__")]
            if way
        ),
    )


def _depth(lookup: str) -> int:
    return lookup.count("__")


def _column(path: Sequence[str], model: type[Model]) -> tuple[str, Any, Sequence[str]]:
    """The lookup of the column that a path leads to, the column, and the rest: members of stored JSON."""
    way, field = [], None
    for part in path:
        way.append(part)
        field = model._meta.get_field(part)
        if field.related_model is None:
            break
        assert isinstance(field.related_model, type)
        model = field.related_model
    return "__".join(way), field, path[len(way) :]


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
