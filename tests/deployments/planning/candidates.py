"""A model and places to run it, for the tests of planning."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from deployments.planning.capacity import FreeCapacity
from deployments.planning.memory import ModelFacts, ServingShape
from deployments.planning.offers import Ask, Candidate
from deployments.planning.starting import StartTimes

GIB = 2**30
ASK = Ask(replicas=1, context_length=2048, max_concurrency=4)
ROOM = FreeCapacity(pods=3, matching_nodes=1, reason="room for 3 more", nodes=("a",))
FULL = FreeCapacity(pods=0, matching_nodes=1, reason="cpu 2 cores needed, 0 cores free")
FACTS = ModelFacts(
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    attention_heads=9,
    kv_heads=3,
    head_size=64,
    vocabulary=49_152,
    context_length=8192,
)


def shape(*, precision: str = "float32", family: str = "cpu", devices: int = 1, **facts: Any) -> ServingShape:
    """The model on some accelerator; `facts` change it."""
    return ServingShape(facts=replace(FACTS, **facts), precision=precision, family=family, devices=devices)


def candidate(flavor: str = "small", **changes: Any) -> Candidate:
    """A place where ASK fits, with room and a price."""
    values: dict[str, Any] = {
        "flavor": flavor,
        "region": "local",
        "cluster": "local",
        "machine_class": "virtual",
        "recipe": "rcp_1",
        "shape": shape(),
        "device_bytes": 4 * GIB,
        "devices": 1,
        "usual_context": 8192,
        "min_memory_bytes": 0,
        "free": ROOM,
        "quota_limit": None,
        "quota_held": 0,
        "quota_per_replica": 2,
        "per_second": Decimal("0.00001"),
        "currency": "EUR",
        "start": StartTimes(total=10.0),
        "provisioning_seconds": 300.0,
        "pool_capacity": 4,
    }
    return Candidate(**values | changes)
