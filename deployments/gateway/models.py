from __future__ import annotations

from typing import ClassVar

from django.db import models

from marketplace.accounts.models import Organization


class Meter(models.TextChoices):
    REQUESTS = "requests", "Requests"
    ERRORS = "errors", "Errors"
    INPUT_TOKENS = "input_tokens", "Input tokens"
    OUTPUT_TOKENS = "output_tokens", "Output tokens"


class RequestCount(models.Model):
    """What went through the gateway in one minute. For insight: bills come from the usage ledger."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    resource = models.CharField(max_length=40)  # public id of the deployment
    api_key = models.CharField(max_length=40)  # public id of the key
    minute = models.DateTimeField()  # start of the minute, UTC
    meter = models.CharField(max_length=16, choices=Meter.choices)
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["resource", "api_key", "minute", "meter"], name="one_count_per_minute_and_meter"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.resource} {self.meter} {self.count}"
