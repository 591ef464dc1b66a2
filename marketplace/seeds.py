"""Reads the data files that ship with the marketplace, and makes the rows that are missing.

A row that exists is left alone, so that what staff changed stays changed; `update=True` takes the file's
values again. The second run costs one query a table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

PACKAGE = Path(__file__).resolve().parent


class SeedError(ValueError):
    """A data file has a row that cannot be used. The message names the row and what is wrong."""


@dataclass(frozen=True)
class SeedCount:
    """What one table's seeding did."""

    created: int = 0
    updated: int = 0
    kept: int = 0

    def __add__(self, other: SeedCount) -> SeedCount:
        return SeedCount(self.created + other.created, self.updated + other.updated, self.kept + other.kept)


def read_data(subject: str, name: str) -> dict[str, Any]:
    """The data file `marketplace/<subject>/data/<name>.toml`."""
    with (PACKAGE / subject / "data" / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def create_missing(
    model: type[models.Model],
    rows: Iterable[Mapping[str, Any]],
    *,
    key: tuple[str, ...] = ("slug",),
    update: bool = False,
) -> SeedCount:
    """Makes the rows whose `key` columns no row has yet. Raises SeedError for a row the model refuses."""
    manager = model._default_manager
    existing = {tuple(getattr(row, column) for column in key): row for row in manager.all()}
    new: list[models.Model] = []
    updated = kept = 0
    for values in rows:
        row = existing.get(tuple(values[column] for column in key))
        if row is None:
            new.append(_checked(model(**values)))
            continue
        changed = update and [column for column, value in values.items() if getattr(row, column) != value]
        if changed:
            for column in changed:
                setattr(row, column, values[column])
            _checked(row).save()
            updated += 1
        else:
            kept += 1
    manager.bulk_create(new)
    return SeedCount(len(new), updated, kept)


def _checked(row: models.Model) -> models.Model:
    # Without relations: each would cost a query to learn that a row just looked up is there.
    relations = {field.name for field in row._meta.fields if field.is_relation}
    try:
        row.clean_fields(exclude=relations)
        row.clean()
    except ValidationError as error:
        fields = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items())
        raise SeedError(f"{row._meta.verbose_name} {row}: {fields}") from error
    return row


def find(rows: Mapping[str, Any], *, slug: str, of: str) -> Any:
    """The row that a data file refers to by slug. Raises SeedError when there is none."""
    try:
        return rows[slug]
    except KeyError:
        raise SeedError(f"{of} refers to {slug!r}, which no data file has") from None
