"""Queries that requests ask again and again in the same form: their SQL is made once, and run anew.

Django makes the SQL of a query anew each time it runs, which takes it several times as long as PostgreSQL
takes to answer. A `Statement` remembers what Django made, and reads rows as Django would. Nothing of an
answer is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.query import get_related_populators

M = TypeVar("M", bound=Model)
Converter = Callable[[Any, Any, Any], Any]
"""From a value, its expression and the connection to what Python knows it as."""


class Given(Expression):
    """The place of a value in a statement's query, for example `filter(hash=Given("hash"))`."""

    def __init__(self, name: str, *, output_field: Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        return "%s", [self]


class Statement(Generic[M]):
    """A query of one form. `make` is called once, at the first use, when all models are there.

    Values are given by name, as PostgreSQL's driver takes them: no conversion of Django's is made of them.
    """

    def __init__(self, make: Callable[[], QuerySet[M, Any]]) -> None:
        self._make = make
        self._made: _Made | None = None

    def rows(self, **given: Any) -> list[tuple[Any, ...]]:
        """The rows of a query that ends with `values_list`."""
        made = self._remembered()
        with connection.cursor() as cursor:
            cursor.execute(made.sql, [given[at.name] if isinstance(at, Given) else at for at in made.values])
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        return made.converted(rows) if made.converters else rows

    def objects(self, **given: Any) -> list[M]:
        """The objects of a query without `values` and `annotate`, with those that it selects related."""
        made = self._remembered()
        found = []
        for row in self.rows(**given):
            one: M = made.model.from_db(DEFAULT_DB_ALIAS, made.columns, row[made.own])
            for populator in made.related:
                populator.populate(row, one)
            found.append(one)
        return found

    def _remembered(self) -> _Made:
        if self._made is None:
            self._made = _made(self._make())
        return self._made


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What Django made of a query."""

    sql: str
    values: Sequence[Any]
    """Constants of the query, and a `Given` for each value that is given."""
    converters: Sequence[tuple[int, Sequence[Converter], Any]]
    """Position in a row, what its value goes through, and its expression."""
    model: Any
    columns: Sequence[str]
    """Of the model itself."""
    own: slice
    """Where they are in a row."""
    related: Sequence[Any]

    def converted(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        answer = []
        for row in rows:
            values = list(row)
            for position, converters, expression in self.converters:
                for convert in converters:
                    values[position] = convert(values[position], expression, connection)
            answer.append(tuple(values))
        return answer


def _made(query: QuerySet[Any, Any]) -> _Made:
    compiler = query.query.get_compiler(using=DEFAULT_DB_ALIAS)
    sql, values = compiler.as_sql(with_col_aliases=False)
    # Of a union it knows the columns of the first query, which Django reads all rows by.
    selected = [expression for expression, *_ in compiler.select]
    converters = compiler.get_converters(selected)
    known: Any = compiler.klass_info
    populators: Callable[..., list[Any]] = get_related_populators  # what the stubs say is true of Django 6
    own = slice(known["select_fields"][0], known["select_fields"][-1] + 1) if known else slice(0)
    return _Made(
        sql=sql,
        values=tuple(values),
        converters=[(position, *rest) for position, rest in converters.items()],
        model=query.model,
        columns=[expression.target.attname for expression in selected[own]],
        own=own,
        related=populators(known, compiler.select, DEFAULT_DB_ALIAS) if known else [],
    )
