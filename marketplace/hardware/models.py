from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models

from marketplace.hardware.attachments import ATTACHMENTS, Attachment, count_problem
from marketplace.hardware.configurations import check_configuration
from marketplace.ids import PublicIdField


class AcceleratorFamily(models.TextChoices):
    """What a runtime image must be built for."""

    CPU = "cpu", "CPU"
    CUDA = "cuda", "NVIDIA GPU"
    ROCM = "rocm", "AMD GPU"
    IPU = "ipu", "Graphcore IPU"


class Accelerator(models.Model):
    """A chip, with the figures that memory fit and price-performance need. Figures carry their source."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    vendor = models.CharField(max_length=40)
    family = models.CharField(max_length=8, choices=AcceleratorFamily.choices)
    memory_bytes = models.BigIntegerField()  # of one device; of the host for a CPU: 0
    peak_tflops = models.JSONField(default=dict, blank=True)  # dense, by precision: {"bfloat16": 989.0}
    bandwidth_bytes_per_second = models.BigIntegerField(null=True, blank=True)
    cores = models.PositiveIntegerField(null=True, blank=True)
    resource_name = models.CharField(max_length=80, blank=True)  # Kubernetes': nvidia.com/gpu; empty = CPU
    attachment = models.CharField(
        max_length=16, choices=list(ATTACHMENTS.items()), default=Attachment.DEVICE_PLUGIN.value
    )
    source = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        by_plugin = self.attachment == Attachment.DEVICE_PLUGIN
        if by_plugin and self.family != AcceleratorFamily.CPU and not self.resource_name:
            problem = "A device plug-in gives chips a name, for example nvidia.com/gpu: which one?"
            raise ValidationError({"resource_name": problem})


class Region(models.Model):
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    country = models.CharField(max_length=2, blank=True)  # ISO 3166-1 alpha-2

    def __str__(self) -> str:
        return self.name


class ClusterKind(models.TextChoices):
    LOCAL = "local", "Processes of this machine"
    KUBERNETES = "kubernetes", "Kubernetes"


class Cluster(models.Model):
    """A place that runs workloads. `deployments.clusters` opens it by kind."""

    slug = models.SlugField(max_length=40, unique=True)
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    kind = models.CharField(max_length=16, choices=ClusterKind.choices)
    # What it may hold is said by `deployments.clusters.site`.
    configuration = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)  # False: nothing new is placed here
    # When all of it was last observed. What vanished since is known to have been there until then, no longer.
    observed_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        check_configuration(self.kind, self.configuration)


class MachineClass(models.TextChoices):
    VIRTUAL = "virtual", "Virtual instance"
    BARE_METAL = "bare_metal", "Bare-metal server"


class Flavor(models.Model):
    """A size that customers choose and pay for: so many of one accelerator, vCPUs and memory."""

    public_id = PublicIdField("flv")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    accelerator = models.ForeignKey(Accelerator, on_delete=models.PROTECT, related_name="flavors")
    accelerator_count = models.PositiveIntegerField(default=1)  # 0 for a CPU flavor
    vcpus = models.DecimalField(max_digits=6, decimal_places=2)
    memory_bytes = models.BigIntegerField()  # of the host's memory
    machine_class = models.CharField(max_length=16, choices=MachineClass.choices)
    enabled = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(vcpus__gt=0), name="flavor_vcpus_positive"),
            models.CheckConstraint(condition=models.Q(memory_bytes__gt=0), name="flavor_memory_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not hasattr(self, "accelerator"):
            return  # the form says that it is missing
        problem = count_problem(self.accelerator.attachment, self.accelerator_count)
        if problem:
            raise ValidationError({"accelerator_count": problem})

    @property
    def model_memory_bytes(self) -> int:
        """What a model may use: the memory of the accelerators together, or the host's on CPU."""
        if self.accelerator.family == AcceleratorFamily.CPU:
            return self.memory_bytes
        return self.accelerator.memory_bytes * self.accelerator_count


class NodePool(models.Model):
    """Nodes of one flavor on one cluster: where a workload of that flavor may land."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="node_pools")
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="node_pools")
    node_selector = models.JSONField(default=dict, blank=True)  # labels that a node of the pool has
    taints = models.JSONField(default=list, blank=True)  # Kubernetes taints that a pod must tolerate
    capacity = models.PositiveIntegerField()  # workloads of this flavor that fit when the pool is empty
    provisioning_p50_seconds = models.PositiveIntegerField(default=0)
    provisioning_p95_seconds = models.PositiveIntegerField(default=0)
    reclaim_notice_seconds = models.PositiveIntegerField(null=True, blank=True)  # null = never reclaimed

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "flavor"], name="one_pool_per_cluster_and_flavor"),
            models.CheckConstraint(condition=models.Q(capacity__gt=0), name="pool_capacity_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.flavor} on {self.cluster}"
