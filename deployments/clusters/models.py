"""Who we are on clusters that we share with other installations."""

from __future__ import annotations

import uuid

from django.db import models


class Installation(models.Model):
    """The one row that tells this database from every other. A copy of the database has the same."""

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    identity = models.UUIDField(default=uuid.uuid4, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="only_one_installation")]

    def __str__(self) -> str:
        return str(self.identity)


def identity_of_database() -> str:
    """The same for every process and for ever; made when it is first asked for."""
    row, _ = Installation.objects.get_or_create(pk=Installation.ONLY)
    return str(row.identity)
