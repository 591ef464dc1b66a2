from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from marketplace.accounts.models import Organization


class IdempotencyRecord(models.Model):
    """The answer to a POST with an Idempotency-Key, given again when the request comes again."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=500)
    key = models.CharField(max_length=200)
    body_hash = models.CharField(max_length=64)  # sha256 of the request's body, hex
    status = models.PositiveSmallIntegerField()
    body = models.TextField()  # of the answer, without what is shown once
    content_type = models.CharField(max_length=100)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "method", "path", "key"], name="one_record_per_idempotency_key"
            ),
        ]
        # For the purge.
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.key}"
