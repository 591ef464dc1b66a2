from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.db import models
from django.db.models.functions import Cast, Ceil
from django.utils import timezone

from deployments.serving.workload import Pausable, Share, Workload
from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.hardware.models import Cluster, Flavor
from marketplace.ids import PublicIdField


class Plan(models.Model):
    """The answer to "may I have this?": checks, offers and a price, good until it expires."""

    public_id = PublicIdField("pln")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="plans")
    spec = models.JSONField()  # the request as understood, with defaults filled in
    spec_hash = models.CharField(max_length=64)
    accepted = models.BooleanField()  # every check passed
    answer = models.JSONField()  # checks with reasons, offers, quote, as the REST document shows them
    recipe = models.ForeignKey(Recipe, on_delete=models.CASCADE, null=True, related_name="+")
    flavor = models.ForeignKey(Flavor, on_delete=models.CASCADE, null=True, related_name="+")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, null=True, related_name="+")
    price = models.ForeignKey(Price, on_delete=models.CASCADE, null=True, related_name="+")
    created_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)  # pruning looks for the oldest

    def __str__(self) -> str:
        return self.public_id


class DesiredState(models.TextChoices):
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    DELETED = "deleted", "Deleted"


class DeploymentState(models.TextChoices):
    """As customers know them from Hugging Face endpoints. Derived by `reconcile.status`, never chosen."""

    PENDING = "pending", "Waiting for capacity"
    INITIALIZING = "initializing", "Initializing"
    RUNNING = "running", "Running"
    UPDATING = "updating", "Updating"
    UPDATE_FAILED = "update_failed", "Update failed"
    PAUSED = "paused", "Paused"
    SCALED_TO_ZERO = "scaled_to_zero", "Scaled to zero"
    FAILED = "failed", "Failed"
    DELETING = "deleting", "Deleting"
    DELETED = "deleted", "Deleted"


class Strategy(models.TextChoices):
    """How a new revision takes the place of the old one."""

    ROLLING = "rolling", "Rolling"  # the old one serves until the new one is ready: room for both
    RECREATE = "recreate", "Recreate"  # the old one goes first: downtime, and room for one only


class Deployment(Pausable, Workload):
    """A model version served for an organization."""

    GOING_STATE = DeploymentState.DELETING

    public_id = PublicIdField("dep")
    plan = models.ForeignKey(Plan, on_delete=models.SET_NULL, null=True, related_name="deployments")

    # Wish
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="+")
    desired_state = models.CharField(
        max_length=16, choices=DesiredState.choices, default=DesiredState.RUNNING
    )
    desired_replicas = models.PositiveIntegerField(default=1)
    target_revision = models.PositiveIntegerField(default=1)  # number of the revision aimed at
    strategy = models.CharField(max_length=16, choices=Strategy.choices, default=Strategy.ROLLING)
    # How long a new revision may make no progress before it is given up; see `reconcile.rollout`.
    progress_seconds = models.PositiveIntegerField(default=1800)
    # While set, the revision aimed at answers so many percent of the requests beside the stable one.
    canary_weight = models.PositiveSmallIntegerField(null=True, blank=True)
    stable_revision = models.PositiveIntegerField(null=True, blank=True)  # set exactly while a canary is

    # Fact
    state = models.CharField(max_length=16, choices=DeploymentState.choices, default=DeploymentState.PENDING)
    serving_revision = models.PositiveIntegerField(null=True, blank=True)  # the one that answers
    # The last one that has answered, kept while nothing does: what a failed update returns to.
    fallback_revision = models.PositiveIntegerField(null=True, blank=True)
    # Since when the revision aimed at is on its way while another could serve; its deadline counts from here.
    rollout_since = models.DateTimeField(null=True, blank=True)
    ready_replicas = models.PositiveIntegerField(default=0)
    degradations = models.JSONField(default=list)  # serving, but worse than asked: [{"reason", "message"}]

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="one_live_deployment_per_name",
            ),
            models.CheckConstraint(
                condition=models.Q(canary_weight__isnull=True, stable_revision__isnull=True)
                | models.Q(canary_weight__range=(1, 99), stable_revision__isnull=False),
                name="canary_has_weight_and_stable_revision",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    @classmethod
    def wished(cls) -> models.QuerySet[Deployment]:
        return cls.objects.filter(deleted_at__isnull=True, desired_state=DesiredState.RUNNING)

    @classmethod
    def shares(cls) -> Sequence[Share]:
        """A canary runs beside the stable revision, and may run on another flavor."""
        replicas = models.F("desired_replicas")
        # `reconcile.rollout.canary_replicas`, in SQL.
        canary = Cast(Ceil(replicas * models.F("canary_weight") / 100.0), models.IntegerField())
        beside_canary = cls.wished().filter(revisions__number=models.F("stable_revision"))
        return (
            Share(rows=cls.wished().filter(canary_weight=None), replicas=replicas),
            Share(rows=cls.wished().exclude(canary_weight=None), replicas=canary),
            Share(rows=beside_canary, flavor="revisions__flavor", replicas=replicas),
        )


class Revision(models.Model):
    """One specification of a deployment, which never changes. Numbers start at 1 and have no gaps."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    # Its replicas are billed by these, also while a later revision with another flavor takes over.
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+")
    # What the manifests are made from, complete and self-contained: see `serving.spec.ServingSpec`.
    spec = models.JSONField()
    # Where the specification came from, to tell of and to plan by again; it runs without either.
    recipe = models.ForeignKey(Recipe, on_delete=models.SET_NULL, null=True, related_name="+")
    plan = models.ForeignKey(Plan, on_delete=models.SET_NULL, null=True, related_name="+")
    author = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # Fact: written by the reconciler, each once.
    served_at = models.DateTimeField(null=True, blank=True)  # when it first became the one that answers
    failed_at = models.DateTimeField(null=True, blank=True)  # when it was given up
    failure = models.JSONField(default=dict)  # why, if it was: {"reason", "message"}

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "number"], name="revision_number_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment} revision {self.number}"


class Replica(models.Model):
    """A pod, as facts. Kept after the pod and its workload are gone: bills and post-mortems need it."""

    uid = models.CharField(max_length=64, unique=True)  # the pod's
    name = models.CharField(max_length=80)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    resource = models.CharField(max_length=40, db_index=True)  # public id of the deployment or job
    revision = models.PositiveIntegerField(null=True)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="+")
    node = models.CharField(max_length=80, blank=True)
    address = models.CharField(max_length=80, blank=True)  # host:port
    phase = models.CharField(max_length=16)  # Kubernetes': Pending, Running, Succeeded, Failed
    ready = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    scheduled_at = models.DateTimeField(null=True)
    image_pulled_at = models.DateTimeField(null=True)
    weights_done_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    # When it changed last from ready to not ready or back; null until it was ready for the first time.
    ready_changed_at = models.DateTimeField(null=True)
    # Of one whose readiness has changed: until when it is known to have been as recorded.
    ready_seen_at = models.DateTimeField(null=True)
    # When it did not answer although it had before: [{"start", "end" or null, "reason"}], oldest first.
    outages = models.JSONField(default=list)
    finished_at = models.DateTimeField(null=True)
    # When it was first missing from an observation without a reported end; stands in for `finished_at`.
    vanished_at = models.DateTimeField(null=True)
    # Of one that is missing: until when it is known to have been there. The customer pays no second after it.
    last_seen_at = models.DateTimeField(null=True)
    # When it was asked to stop: by the customer, or because another revision took its place. No second after
    # it is the customer's.
    stop_requested_at = models.DateTimeField(null=True)
    restarts = models.PositiveIntegerField(default=0)
    exit_code = models.IntegerField(null=True)
    last_end_at = models.DateTimeField(null=True)  # of the newest run of its container that ended
    last_end_reason = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=80, blank=True)
    message = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [
            # Every sweep asks for those that live, and rows are kept for good.
            models.Index(
                fields=["cluster"],
                condition=models.Q(finished_at__isnull=True, vanished_at__isnull=True),
                name="living_replica_by_cluster",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PostMortem(models.Model):
    """What is known of a replica, or one run of its container, that died. Kept after all else is deleted."""

    public_id = PublicIdField("pmo")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    resource = models.CharField(max_length=40)  # public id of the deployment or job
    resource_name = models.CharField(max_length=80)
    replica_uid = models.CharField(max_length=64)
    replica = models.CharField(max_length=80)  # its name
    revision = models.PositiveIntegerField(null=True)
    attempt = models.PositiveIntegerField()  # which run of its container, from 1
    node = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()  # of the replica
    started_at = models.DateTimeField(null=True)  # of its first run
    ready_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)  # of this run, as the cluster says
    exit_code = models.IntegerField(null=True)
    reason = models.CharField(max_length=40)  # a TerminationReason
    message = models.TextField()
    cause = models.CharField(max_length=40, blank=True)  # id of a known cause: see `reconcile.signatures`
    fix = models.JSONField(null=True)  # {"title", "message", "who", "change"}
    memory_limit_bytes = models.BigIntegerField(null=True)
    lines = models.JSONField(default=list)  # the last ones of its log, oldest first
    events = models.JSONField(default=list)  # of the cluster: [{"at", "reason", "message", "count"}]
    missing = models.JSONField(default=list)  # what the cluster did not tell, and why

    class Meta:
        indexes: ClassVar = [models.Index(fields=["resource", "id"], name="post_mortem_by_resource")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["replica_uid", "attempt"], name="one_post_mortem_per_run"),
        ]

    def __str__(self) -> str:
        return f"{self.replica} {self.reason}"


class Deletion(models.Model):
    """A deletion on its way, and its story afterwards. Needs nothing of the workload but its id."""

    public_id = PublicIdField("del")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    resource = models.CharField(max_length=40, unique=True)  # public id of the deployment or job
    resource_name = models.CharField(max_length=40)
    cluster = models.CharField(max_length=80)  # slug: the row may be gone one day

    # Wish: written together with the wish to delete.
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=254, blank=True)
    deadline = models.DateTimeField()

    # Fact: written by the reconciler.
    inventory = models.JSONField(default=list)  # what is left: see `reconcile.deletion.Deleting`
    inventory_at = models.DateTimeField(null=True)  # since when exactly that is left
    stuck_at = models.DateTimeField(null=True)  # when it was found to be stuck; null = it is not
    gone_at = models.DateTimeField(null=True)  # when nothing was seen for the first time

    class Meta:
        # What staff look at first.
        indexes: ClassVar = [
            models.Index(
                fields=["stuck_at"], name="stuck_deletions", condition=models.Q(stuck_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.resource} ({self.public_id})"


class DeletionReceipt(models.Model):
    """Says that a workload is gone and what it cost. Issued once; no row ever changes (database trigger)."""

    public_id = PublicIdField("rct")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    resource = models.CharField(max_length=40, unique=True)
    resource_name = models.CharField(max_length=40)
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=254, blank=True)
    gone_at = models.DateTimeField()
    last_billed_at = models.DateTimeField(null=True)  # when billing ended; null = nothing was billed
    totals = models.JSONField()  # [{"currency", "amount", "billed_seconds"}], decimals as text
    inventory = models.JSONField(default=list)  # what was left: nothing
    observation = models.JSONField()  # by which that was seen: {"cluster", "observed_at", "selector"}
    issued_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return f"{self.resource} ({self.public_id})"


class EventSource(models.TextChoices):
    CUSTOMER = "customer", "Customer"
    SYSTEM = "system", "System"


class Event(models.Model):
    """Something that happened to a workload, in the customer's words. Append-only."""

    public_id = PublicIdField("evt")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    resource = models.CharField(max_length=40)  # public id of the deployment or job
    at = models.DateTimeField(default=timezone.now)
    source = models.CharField(max_length=16, choices=EventSource.choices)
    actor = models.CharField(max_length=254, blank=True)
    reason = models.CharField(max_length=64)  # CamelCase, as Kubernetes writes reasons
    message = models.TextField()
    data = models.JSONField(default=dict)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["resource", "id"], name="event_by_resource")]

    def __str__(self) -> str:
        return f"{self.resource} {self.reason}"
