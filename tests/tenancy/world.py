"""The whole database as one comparable value, to prove that a request changed nothing."""

from __future__ import annotations

from django.apps import apps
from django.db import connection

UNIMPORTANT = {"accounts_apikey": "last_used_at"}
"""Columns that change because somebody asked, not because of what was asked."""
LEFT_OUT = frozenset({"django_session"})


def state_of_the_world() -> dict[str, list[str]]:
    """Table name → its rows as text, sorted."""
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    with connection.cursor() as cursor:
        world = {}
        for table in sorted(tables - LEFT_OUT):
            column = UNIMPORTANT.get(table, "")
            cursor.execute(f'SELECT (to_jsonb(t) - %s)::text FROM "{table}" t ORDER BY 1', [column])
            world[table] = [row[0] for row in cursor.fetchall()]
    return world
