"""The steps of the journey, in order. Each does what a customer or an operator would do, looks at the outcome
in the product and on the cluster, and returns one sentence on what that proved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import yaml
from openai import OpenAI

from deployments.demo.client import RestClient
from deployments.demo.steps import demo_file
from runtimes.contract import WEIGHTS_CONTAINER, parse_weights
from tests.e2e.cluster import Kube, break_node
from tests.processes import wait_until

CHAT_MODEL = "huggingfacetb/smollm2-135m-instruct"
FLAVOR = "t4-1"
START_SECONDS = 240.0
TUNING_SECONDS = 900.0
EXAMPLES = 24
"""Enough to see the loss fall."""
SECOND = timedelta(seconds=1)
QUESTION = "What is the capital of Luxembourg?"


class Skipped(Exception):
    """The cluster cannot show this step; the message says what is missing."""


@dataclass
class World:
    """What the journey knows so far."""

    kube: Kube
    rest: RestClient
    openai: OpenAI
    gateway_url: str
    api_key: str
    say: Callable[[str], None]
    deployment: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    outage: tuple[datetime, datetime] | None = None
    """From the loss of a node until the cluster said that another replica was ready."""

    @property
    def path(self) -> str:
        return f"deployments/{self.deployment['id']}/"


def plan(world: World) -> str:
    """The plan knows the cluster's nodes."""
    wait_until(
        lambda: _capacity(world)["available"] is not None, seconds=60, what="the first sweep of the cluster"
    )
    check = _capacity(world)
    assert check["passed"], check
    refused = world.rest.post("plans/", {"model": CHAT_MODEL, "flavor": FLAVOR, "replicas": 3})
    assert not refused["accepted"], "three replicas were planned on two nodes"
    return f"{check['message']} Three replicas are refused."


def deploy(world: World) -> str:
    """From the request to a pod on a node with the label and the GPU of its pool."""
    began = time.monotonic()
    world.deployment = world.rest.post(
        "deployments/", {"name": "e2e-chat", "model": CHAT_MODEL, "flavor": FLAVOR, "context_length": 1024}
    )
    running = _wait_running(world)
    seconds = time.monotonic() - began
    (pod,) = _living(world)
    labels = world.kube.get("v1", "Node", pod["spec"]["nodeName"])["metadata"]["labels"]
    assert labels["marketplace.example/pool"] == "gpu-vm", labels
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1", limits
    return f"revision {running['serving_revision']} runs on {pod['spec']['nodeName']} after {seconds:.1f} s"


def weights_by_the_cache(world: World) -> str:
    """The first start brought the weights to the node's cache; its timeline says so."""
    (pod,) = _living(world)
    fetched = _fetched_bytes(world, pod)
    what = f"{fetched / 2**20:.0f} MiB fetched" if fetched else "an earlier journey has left them there"
    return f"{what}; {_start_of(world, pod)}"


def chat(world: World) -> str:
    answer = _ask(world)
    assert "Luxembourg" in answer, answer
    return f"the openai SDK got {answer!r} through the gateway"


def roll(world: World) -> str:
    """A new revision under continuous requests."""
    before = world.rest.get(world.path)["serving_revision"]
    with _Traffic(world) as traffic:
        world.rest.patch(world.path, {"context_length": 2048})
        wait_until(
            lambda: world.rest.get(world.path)["serving_revision"] == before + 1 and len(_living(world)) == 1,
            seconds=START_SECONDS,
            what="the new revision",
        )
        traffic.count_more(5)
    assert not traffic.failures, traffic.failures
    return f"revision {before} → {before + 1} under {traffic.answers} requests, none failed"


def weights_from_the_cache(world: World) -> str:
    """Another start of the same version beside the same cache fetches nothing."""
    (pod,) = _living(world)
    fetched = _fetched_bytes(world, pod)
    assert fetched == 0, f"{fetched} bytes came again"
    return f"0 bytes fetched; {_start_of(world, pod)}"


def compare(world: World) -> str:
    """Request to Ready by the product, and the same pod template by somebody with kubectl apply."""
    began = time.monotonic()
    second = world.rest.post(
        "deployments/", {"name": "e2e-second", "model": CHAT_MODEL, "flavor": FLAVOR, "context_length": 1024}
    )
    world.rest.wait(
        f"deployments/{second['id']}/",
        until=lambda document: document["state"] == "running",
        failed=lambda document: document["state"] == "failed",
        seconds=START_SECONDS,
    )
    ours = time.monotonic() - began
    (workload,) = world.kube.list("apps/v1", "Deployment", labels=f"marketplace/resource={second['id']}")
    world.rest.delete(f"deployments/{second['id']}/")
    wait_until(
        lambda: world.kube.left_of(second["id"]) == [], seconds=120, what="the end of the second deployment"
    )
    by_hand = _stripped(workload)
    name, namespace = by_hand["metadata"]["name"], by_hand["metadata"]["namespace"]
    began = time.monotonic()
    world.kube.apply(by_hand)

    def is_ready() -> bool:
        found = world.kube.get("apps/v1", "Deployment", name, namespace)
        return bool(found and found.get("status", {}).get("readyReplicas"))

    wait_until(is_ready, seconds=START_SECONDS, what="what was applied by hand")
    theirs = time.monotonic() - began
    world.kube.delete("apps/v1", "Deployment", name, namespace)
    return f"request → running {ours:.1f} s, kubectl apply → ready {theirs:.1f} s: {ours / theirs:.2f} times"


def lose_node(world: World) -> str:
    """The node that serves goes away."""
    (pod,) = _living(world)
    node = pod["spec"]["nodeName"]
    lost = datetime.now(UTC)
    if not break_node("E2E_LOSE_NODE", node):
        raise Skipped("E2E_LOSE_NODE does not say how to take a node away")
    try:
        wait_until(
            lambda: any(
                item["metadata"]["uid"] != pod["metadata"]["uid"] and _ready_since(item)
                for item in _living(world)
            ),
            seconds=START_SECONDS,
            what="a replica on another node",
        )
        _wait_running(world)
        assert "Luxembourg" in _ask(world)
        moments = [since for item in _living(world) if (since := _ready_since(item)) and since > lost]
        world.outage = (lost, max(moments))
    finally:
        break_node("E2E_RECOVER_NODE", node)
    events = world.rest.get(f"{world.path}events/")["items"]
    told = [event["message"] for event in events if node in event["message"]]
    assert told, f"the timeline does not tell of {node}: {[event['message'] for event in events]}"
    seconds = (world.outage[1] - lost).total_seconds()
    return f"{node} was lost; ready on another node after {seconds:.0f} s; told: {told[0]}"


def heal(world: World) -> str:
    """Somebody deletes and edits what is ours."""
    mine = f"marketplace/resource={world.deployment['id']}"
    (workload,) = world.kube.list("apps/v1", "Deployment", labels=mine)
    name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
    world.kube.patch("apps/v1", "Deployment", name, namespace, {"spec": {"replicas": 0}})
    wait_until(
        lambda: world.kube.get("apps/v1", "Deployment", name, namespace)["spec"]["replicas"] == 1,
        seconds=60,
        what="the number of replicas to be set right",
    )
    uid = workload["metadata"]["uid"]
    world.kube.delete("apps/v1", "Deployment", name, namespace)

    def is_another() -> bool:
        found = world.kube.get("apps/v1", "Deployment", name, namespace)
        return found is not None and found["metadata"]["uid"] != uid

    wait_until(is_another, seconds=60, what="the deleted object to come back")
    (service,) = world.kube.list("v1", "Service", labels=mine)
    world.kube.delete("v1", "Service", service["metadata"]["name"], namespace)
    wait_until(
        lambda: world.kube.list("v1", "Service", labels=mine) != [],
        seconds=60,
        what="the Service to come back",
    )
    _wait_running(world)
    assert "Luxembourg" in _ask(world)
    return "a scaled Deployment, a deleted Deployment and a deleted Service are as they were"


def tune(world: World) -> str:
    """A fine-tuning Job on the cluster."""
    examples = "\n".join(demo_file("train.jsonl").splitlines()[:EXAMPLES])
    dataset = world.rest.upload("datasets/", name="e2e-support", content=examples.encode())
    job = world.rest.post(
        "fine-tuning-jobs/",
        {
            "name": "e2e-support",
            "model": CHAT_MODEL,
            "training_dataset": dataset["id"],
            "flavor": FLAVOR,
            "hyperparameters": {"epochs": 1},
        },
    )
    world.job = world.rest.wait(
        f"fine-tuning-jobs/{job['id']}/",
        until=lambda document: document["state"] == "succeeded",
        failed=lambda document: document["state"] in ("failed", "cancelled"),
        seconds=TUNING_SECONDS,
    )
    progress = world.job["progress"]
    return (
        f"held-out loss {progress['validation_loss_before']:.3f} → {progress['validation_loss_after']:.3f} "
        f"in {progress['total_steps']} steps"
    )


def delete(world: World) -> str:
    """Nothing is left, and a receipt says so."""
    world.rest.delete(world.path)
    world.rest.wait(
        world.path,
        until=lambda document: document["state"] == "deleted",
        failed=lambda _: False,
        seconds=120,
    )
    left = world.kube.left_of(world.deployment["id"]) + world.kube.left_of(world.job["id"])
    assert left == [], left
    deletion = world.rest.get(f"{world.path}deletion/")
    assert deletion["receipt"], deletion
    return f"receipt: {deletion['receipt']}"


def bill(world: World) -> str:
    """No second of the outage is the customer's, and the ledger can be recomputed from what was observed."""
    page = world.rest.get("usage/intervals/", resource=world.deployment["id"], page_size=100)
    paid = [item for item in page["items"] if item["cause"] == "customer"]
    seconds = sum((Decimal(item["seconds"]) for item in paid), Decimal(0))
    if world.outage is not None:
        lost, back = world.outage
        # The cluster's times are whole seconds.
        inside = [
            item
            for item in paid
            if datetime.fromisoformat(item["start"]) < back - SECOND
            and datetime.fromisoformat(item["end"]) > lost + 2 * SECOND
        ]
        assert not inside, f"the outage from {lost} to {back} was billed: {inside}"
    return f"{seconds} seconds of {len(paid)} intervals are the customer's, none within the outage"


STEPS: tuple[tuple[str, Callable[[World], str]], ...] = (
    ("Plan from what the cluster reports", plan),
    ("Deploy onto a GPU node", deploy),
    ("Weights by the cache", weights_by_the_cache),
    ("Chat through the gateway", chat),
    ("Roll to a new revision under load", roll),
    ("Weights from the cache", weights_from_the_cache),
    ("Compare with kubectl apply", compare),
    ("Lose a node", lose_node),
    ("Heal what somebody edits and deletes", heal),
    ("Fine-tune", tune),
    ("Delete everything", delete),
    ("Bill", bill),
)


class _Traffic:
    """Requests one after another, from a thread, while a block runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> _Traffic:
        self._thread.start()
        self.count_more(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def count_more(self, number: int) -> None:
        """Waits for so many more answers."""
        goal = self.answers + number
        wait_until(lambda: self.answers + len(self.failures) >= goal, seconds=120, what="more answers")

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._world.api_key}"}
        with httpx.Client(base_url=self._world.gateway_url, headers=headers, timeout=60) as http:
            while not self._stop.is_set():
                body = {
                    "model": "e2e-chat",
                    "messages": [{"role": "user", "content": QUESTION}],
                    "max_tokens": 4,
                }
                try:
                    response = http.post("/v1/chat/completions", json=body)
                    response.raise_for_status()
                    self.answers += 1
                except httpx.HTTPError as error:
                    self.failures.append(f"{error!r}")


def _capacity(world: World) -> dict[str, Any]:
    answer = world.rest.post("plans/", {"model": CHAT_MODEL, "flavor": FLAVOR})
    found: dict[str, Any] = next(check for check in answer["checks"] if check["name"] == "capacity")
    return found


def _wait_running(world: World) -> dict[str, Any]:
    return world.rest.wait(
        world.path,
        until=lambda document: document["state"] == "running",
        failed=lambda document: document["state"] == "failed",
        seconds=START_SECONDS,
    )


def _living(world: World) -> list[dict[str, Any]]:
    return [
        pod
        for pod in world.kube.pods(world.deployment["id"])
        if not pod["metadata"].get("deletionTimestamp") and pod["status"]["phase"] in ("Pending", "Running")
    ]


def _ready_since(pod: dict[str, Any]) -> datetime | None:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None


def _fetched_bytes(world: World, pod: dict[str, Any]) -> int:
    """What the init container says that it brought."""
    lines = world.kube.log(pod, container=WEIGHTS_CONTAINER).splitlines()
    progress = [found for line in lines if (found := parse_weights(line))]
    assert progress, lines
    return progress[-1].bytes_fetched


def _start_of(world: World, pod: dict[str, Any]) -> str:
    """The steps of a start with their seconds, from the timeline."""
    timelines = world.rest.get(f"{world.path}timeline/")["items"]
    (mine,) = [item for item in timelines if item["replica"] == pod["metadata"]["name"]]
    parts = []
    for step in mine["steps"]:
        if step["started_at"] and step["ended_at"]:
            took = datetime.fromisoformat(step["ended_at"]) - datetime.fromisoformat(step["started_at"])
            parts.append(f"{step['step']} {took.total_seconds():.1f} s")
    return ", ".join(parts)


def _stripped(workload: dict[str, Any]) -> dict[str, Any]:
    """A Deployment as it was applied, under another name and without a label of ours."""
    text = yaml.safe_dump(workload["spec"]).replace("marketplace/", "by-hand/")
    spec = yaml.safe_load(text.replace("app.kubernetes.io/managed-by", "by-hand/managed-by"))
    for container in (*spec["template"]["spec"]["containers"], *spec["template"]["spec"]["initContainers"]):
        container["image"] = container["image"].replace("by-hand/", "marketplace/")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "by-hand", "namespace": workload["metadata"]["namespace"]},
        "spec": spec,
    }


def _ask(world: World) -> str:
    answer = world.openai.chat.completions.create(
        model="e2e-chat",
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=24,
        temperature=0,
    )
    return (answer.choices[0].message.content or "").strip()
