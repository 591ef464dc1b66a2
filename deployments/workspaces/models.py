from __future__ import annotations

from typing import ClassVar

from django.db import models

from deployments.serving.models import DesiredState
from deployments.serving.workload import Pausable, Workload
from marketplace.catalog.models import Framework
from marketplace.ids import PublicIdField


class WorkspaceState(models.TextChoices):
    """The states of a deployment that a single notebook server can have. Derived, never chosen."""

    PENDING = "pending", "Waiting for capacity"
    INITIALIZING = "initializing", "Initializing"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    FAILED = "failed", "Failed"
    DELETING = "deleting", "Deleting"
    DELETED = "deleted", "Deleted"


class Workspace(Pausable, Workload):
    """A notebook server of an organization. Its volume lives from the creation to the deletion."""

    GOING_STATE = WorkspaceState.DELETING

    public_id = PublicIdField("wsp")

    # Wish
    framework = models.ForeignKey(Framework, on_delete=models.PROTECT, related_name="+")
    volume_gib = models.PositiveIntegerField()
    # What the manifests are made from, complete and self-contained: see `serving.spec.WorkspaceSpec`.
    spec = models.JSONField()
    # Which token opens it, counted from 1, and the SHA-256 by which the server knows it: see `tokens`.
    token_number = models.PositiveIntegerField(default=1)
    token_hash = models.CharField(max_length=64)
    desired_state = models.CharField(
        max_length=16, choices=DesiredState.choices, default=DesiredState.RUNNING
    )

    # Fact
    state = models.CharField(max_length=16, choices=WorkspaceState.choices, default=WorkspaceState.PENDING)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="one_live_workspace_per_name",
            ),
            models.CheckConstraint(
                condition=models.Q(volume_gib__gte=1, token_number__gte=1),
                name="workspace_has_volume_and_token",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    @classmethod
    def wished(cls) -> models.QuerySet[Workspace]:
        return cls.objects.filter(deleted_at__isnull=True, desired_state=DesiredState.RUNNING)
