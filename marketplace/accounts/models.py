from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.utils import timezone

from marketplace.ids import PublicIdField


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})


class User(AbstractUser):
    """A person. Signs in by e-mail address; staff see the admin."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    def __str__(self) -> str:
        return self.email


class Organization(models.Model):
    """A customer. Every other object belongs to one, and none sees another's."""

    public_id = PublicIdField("org")
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=120)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    DEVELOPER = "developer", "Developer"
    BILLING = "billing", "Billing"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    public_id = PublicIdField("mem")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "user"], name="one_membership_per_user"),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.organization}"


class Scope(models.TextChoices):
    """What an API key may do. A role grants a set of them (see `roles.py`)."""

    READ = "read", "Read everything of the organization"
    DEPLOY = "deploy", "Plan, create, change and delete deployments"
    TUNE = "tune", "Upload datasets and run fine-tuning jobs"
    INFER = "infer", "Call deployed models through the gateway"
    BILLING = "billing", "Read usage and bills"
    ADMIN = "admin", "Manage members and API keys"


class ApiKey(models.Model):
    """A secret for programs. The secret itself is shown once; the row keeps its sha256."""

    public_id = PublicIdField("key")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16, editable=False)  # the visible start of the secret
    hash = models.CharField(max_length=64, unique=True, editable=False)  # sha256 of the whole secret, hex
    scopes = models.JSONField(default=list)  # list of Scope values
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written at most once a minute, by whoever accepts the key.
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def state_at(self, now: datetime) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class AuditEvent(models.Model):
    """Who changed what, and when. A database trigger refuses every UPDATE and DELETE."""

    public_id = PublicIdField("aud")
    organization = models.ForeignKey(
        Organization, on_delete=models.DO_NOTHING, null=True, related_name="audit_events", db_constraint=False
    )
    at = models.DateTimeField(default=timezone.now, editable=False)
    actor_user = models.CharField(max_length=254, blank=True)  # e-mail address, kept when the user goes
    actor_key = models.CharField(max_length=40, blank=True)  # public id of the API key
    action = models.CharField(max_length=64)  # noun.verb: "deployment.create"
    target = models.CharField(max_length=40, blank=True)  # public id of what was changed
    changes = models.JSONField(default=dict)  # field -> [before, after]; never a secret

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization", "-at"], name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
