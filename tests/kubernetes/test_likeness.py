"""The stand-in against the original: same requests, same answers, and things take the same course."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.controlplane import real_kubeconfig
from tests.kubernetes.kubelet.client import MERGE, ApiError, Client
from tests.kubernetes.kubelet.fleet import Fleet
from tests.kubernetes.kubelet.nodes import Node, bare_metal
from tests.kubernetes.kubelet.scripted import Scripted
from tests.kubernetes.standin import StandIn

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

APPLY = "application/apply-patch+yaml"
PLACE = "likeness"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{PLACE}/deployments"
JOBS = f"/apis/batch/v1/namespaces/{PLACE}/jobs"
CORE = f"/api/v1/namespaces/{PLACE}"
NODES = [
    Node(name="gpu-1", labels={"pool": "a"}, capacity={"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}),
    bare_metal("metal-1", gpus=8),
]


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Kubeconfigs of both control planes, each with the same nodes."""
    folder = tmp_path_factory.mktemp("likeness")
    with real_kubeconfig(folder, alone=True) as real, StandIn() as standin:
        found = {"real": real, "stand-in": standin.kubeconfig(folder / "stand-in")}
        with nodes(found["real"]), nodes(found["stand-in"]):
            yield found


@contextmanager
def nodes(kubeconfig: Path) -> Iterator[None]:
    with Fleet(kubeconfig, NODES, Scripted()):
        yield


def deployment(name="web", **spec):
    container = {
        "name": "main",
        "image": "a:1",
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def job(name="run", image="a:1", **spec):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": template, **spec},
    }


def pod(name, *, limits=None, **spec):
    container = {"name": "main", "image": "a:1", "resources": {"limits": limits or {}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def named(name, **more):
    return {"metadata": {"name": name, **more.pop("metadata", {})}, **more}


UID = "00000000-0000-0000-0000-000000000000"
US, STRICT = {"fieldManager": "us"}, {"fieldValidation": "Strict"}
SELECTOR = {"spec": {"selector": {"matchLabels": {"b": "c"}}}}
OLD = {**deployment(), "metadata": {"name": "web", "resourceVersion": "1"}}
OTHER = {**deployment("c"), "metadata": {"name": "c", "uid": UID}}
BAD_LABEL = named("m", metadata={"labels": {"a": "b c"}})
SERVICE = named("s", spec={"ports": [{"port": 80}]})
NO_PORT = named("t", spec={"ports": [{"port": 0}]})
QUOTA = named("q", spec={"hard": {"requests.nvidia.com/gpu": "1"}})
REQUESTS: list[tuple[str, str, str, Any, str, dict[str, str]]] = [
    # what it shows, method, path, body, content type, query
    ("apply without its namespace", "PATCH", f"{DEPLOYMENTS}/web", deployment(), APPLY, US),
    ("the namespace", "POST", "/api/v1/namespaces", {"metadata": {"name": PLACE}}, "", {}),
    ("apply makes it", "PATCH", f"{DEPLOYMENTS}/web", deployment(replicas=0, paused=True), APPLY, US),
    ("apply the same", "PATCH", f"{DEPLOYMENTS}/web", deployment(replicas=0, paused=True), APPLY, US),
    ("apply without a field", "PATCH", f"{DEPLOYMENTS}/web", deployment(replicas=0), APPLY, US),
    ("apply somebody else's", "PATCH", f"{DEPLOYMENTS}/web", deployment(), APPLY, {"fieldManager": "them"}),
    ("an unknown field", "PATCH", f"{DEPLOYMENTS}/web", deployment(replics=1), APPLY, US),
    ("a wrong type", "PATCH", f"{DEPLOYMENTS}/web", deployment(replicas="1"), APPLY, US),
    (
        "an unknown field, made",
        "POST",
        DEPLOYMENTS,
        deployment("b", replics=1),
        "",
        {"fieldValidation": "Strict"},
    ),
    ("a wrong name and number", "POST", DEPLOYMENTS, deployment("A_b", replicas=-1), "", {}),
    ("a name with emoji", "POST", DEPLOYMENTS, deployment("web-🚀"), "", {}),
    (
        "another selector",
        "PATCH",
        f"{DEPLOYMENTS}/web",
        {"spec": {"selector": {"matchLabels": {"b": "c"}}}},
        MERGE,
        {},
    ),
    ("no field manager", "PATCH", f"{DEPLOYMENTS}/web", deployment(), APPLY, {}),
    (
        "an old version",
        "PUT",
        f"{DEPLOYMENTS}/web",
        {**deployment(), "metadata": {"name": "web", "resourceVersion": "1"}},
        "",
        {},
    ),
    (
        "of another object",
        "PATCH",
        f"{DEPLOYMENTS}/c",
        {**deployment("c"), "metadata": {"name": "c", "uid": UID}},
        APPLY,
        US,
    ),
    ("made twice", "POST", DEPLOYMENTS, deployment(), "", {}),
    ("not there", "GET", f"{DEPLOYMENTS}/nothing", None, "", {}),
    ("nothing to delete", "DELETE", f"{DEPLOYMENTS}/nothing", None, "", {}),
    ("no such kind", "GET", f"/apis/apps/v1/namespaces/{PLACE}/things", None, "", {}),
    ("a wrong field selector", "GET", DEPLOYMENTS, None, "", {"fieldSelector": "spec.x=1"}),
    (
        "a bad label",
        "POST",
        f"{CORE}/configmaps",
        {"metadata": {"name": "m", "labels": {"a": "b c"}}},
        "",
        {},
    ),
    (
        "a service",
        "POST",
        f"{CORE}/services",
        {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}},
        "",
        {},
    ),
    (
        "a service without a port",
        "POST",
        f"{CORE}/services",
        {"metadata": {"name": "t"}, "spec": {"ports": [{"port": 0}]}},
        "",
        {},
    ),
    ("a quantity that is none", "POST", f"{CORE}/pods", pod("p", limits={"cpu": "much"}), "", {}),
    ("a job", "PATCH", f"{JOBS}/run", job(), APPLY, US),
    ("more completions", "PATCH", f"{JOBS}/run", job(completions=2), APPLY, US),
    ("a job that restarts", "POST", JOBS, {**job("j"), "spec": {"template": pod("x")}}, "", {}),
    ("delete a deployment", "DELETE", f"{DEPLOYMENTS}/web", {"propagationPolicy": "Background"}, "", {}),
    ("a quota", "POST", f"{CORE}/resourcequotas", QUOTA, "", {}),
]


async def answers(kubeconfig: Path) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    async with Client(kubeconfig, agent="likeness/1") as client:
        for what, method, path, body, content, query in REQUESTS:
            try:
                answer: Any = plain(
                    await client.request(method, path, body, content=content or "application/json", **query)
                )
            except ApiError as error:
                answer = (error.code, settled(str(error)))
            found.append((what, answer))
    return found


VOLATILE = {"uid", "resourceVersion", "creationTimestamp", "time", "managedFields", "clusterIP", "clusterIPs"}
WORDS = (
    # What the two do not share, and no client reads: how Go and Python name a wrong type.
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"json: .*"), "json: …"),
    (re.compile(r"quantities must match.*"), "…"),
)


def settled(text: str) -> str:
    for pattern, word in WORDS:
        text = pattern.sub(word, text)
    return text


def plain(value: Any) -> Any:
    """An answer without what differs from one server to the next."""
    if isinstance(value, dict):
        return {
            name: plain(inner)
            for name, inner in value.items()
            if name not in VOLATILE
            and not name.endswith("controller-uid")
            # Controllers write these soon after, and nobody knows how soon.
            and name != "annotations"
            and not (name == "status" and isinstance(inner, dict))
        }
    if isinstance(value, list):
        return [plain(item) for item in value]
    return settled(value) if isinstance(value, str) else value


def differences(real: Any, standin: Any, path: str = "") -> list[str]:
    """Every place where two answers differ, with both values."""
    if isinstance(real, dict) and isinstance(standin, dict):
        names = {**real, **standin}
        return [
            text
            for name in names
            for text in differences(real.get(name), standin.get(name), f"{path}/{name}")
        ]
    if isinstance(real, list) and isinstance(standin, list) and len(real) == len(standin):
        pairs = enumerate(zip(real, standin, strict=True))
        return [text for number, (one, two) in pairs for text in differences(one, two, f"{path}/{number}")]
    return [] if real == standin else [f"{path}: {real!r}, the stand-in says {standin!r}"]


async def test_the_same_requests_get_the_same_answers(planes):
    real = await answers(planes["real"])
    standin = await answers(planes["stand-in"])
    wrong = differences(dict(real), dict(standin))
    assert not wrong, "\n".join(wrong)


# --- The course of things -----------------------------------------------------------------------------------


async def course(kubeconfig: Path, place: str) -> dict[str, Any]:
    """What becomes of a few objects in a namespace of their own."""
    told: dict[str, Any] = {}
    core = f"/api/v1/namespaces/{place}"
    async with Client(kubeconfig, agent="likeness/1") as client:
        await client.request("POST", "/api/v1/namespaces", {"metadata": {"name": place}})

        async def wait(path: str, holds: Any) -> dict[str, Any]:
            async with asyncio.timeout(60):
                while True:
                    try:
                        found = await client.request("GET", path)
                    except ApiError as error:
                        found = {"gone": error.code}
                    if holds(found):
                        return found
                    await asyncio.sleep(0.1)

        for node in NODES:  # a real one keeps a new node closed until it has seen it ready
            taints = [dict(taint) for taint in node.taints] or None
            await wait(
                f"/api/v1/nodes/{node.name}", lambda it, taints=taints: it["spec"].get("taints") == taints
            )
        # Until the namespace has its service account, pods are refused by the real one.
        async with asyncio.timeout(30):
            while True:
                try:
                    first = pod("no-such-pool", nodeSelector={"pool": "x"})
                    await client.request("POST", f"{core}/pods", first)
                    break
                except ApiError:
                    await asyncio.sleep(0.1)
        unfit = {
            "too-much-cpu": pod("too-much-cpu", limits={"cpu": "5", "memory": "9Gi"}),
            "two-gpus": pod("two-gpus", limits={"nvidia.com/gpu": "2"}),
            "no-claim": pod(
                "no-claim", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
            ),
        }
        for manifest in unfit.values():
            await client.request("POST", f"{core}/pods", manifest)
        for name in ("no-such-pool", *unfit):
            found = await wait(f"{core}/pods/{name}", lambda it: it["status"].get("conditions"))
            told[name] = [
                (item["type"], item["status"], item["reason"], item["message"])
                for item in found["status"]["conditions"]
            ]
            await client.request("DELETE", f"{core}/pods/{name}")

        folder = f"/apis/apps/v1/namespaces/{place}/deployments"
        await client.request("POST", folder, deployment(replicas=2))
        found = await wait(f"{folder}/web", lambda it: it["status"].get("readyReplicas") == 2)
        told["deployment"] = described(found["status"])
        listed = await client.request("GET", f"{core}/pods")
        told["pods"] = [owned(item) for item in listed["items"]]
        await client.request("DELETE", f"{folder}/web", {"propagationPolicy": "Foreground"})
        await wait(f"{folder}/web", lambda it: "gone" in it)
        told["pods after their deployment"] = (await client.request("GET", f"{core}/pods"))["items"]

        folder = f"/apis/batch/v1/namespaces/{place}/jobs"
        await client.request("POST", folder, job(suspend=False))
        found = await wait(f"{folder}/run", lambda it: it["status"].get("completionTime"))
        told["job"] = described(found["status"])
        await client.request("DELETE", f"{folder}/run")
        await wait(f"{folder}/run", lambda it: "gone" in it)
        listed = await client.request("GET", f"{core}/pods")
        told["pods after their job"] = [owned(item) for item in listed["items"]]
        await client.request("DELETE", f"/api/v1/namespaces/{place}")
        await wait(f"/api/v1/namespaces/{place}", lambda it: "gone" in it)
    return told


def described(status: dict[str, Any]) -> dict[str, Any]:
    """A status without its times; conditions by type."""
    conditions = {
        item["type"]: (
            item["status"],
            item.get("reason"),
            re.sub(r'"web-\w+"', '"web-…"', item.get("message", "")),
        )
        for item in status.get("conditions") or ()
    }
    others = {
        name: value for name, value in status.items() if not name.endswith("Time") and name != "conditions"
    }
    return {**others, "conditions": conditions}


def owned(item: dict[str, Any]) -> Any:
    metadata, status = item["metadata"], item["status"]
    owners = [(owner["kind"], owner["controller"]) for owner in metadata.get("ownerReferences") or ()]
    conditions = sorted((it["type"], it["status"]) for it in status["conditions"])
    return owners, metadata.get("finalizers"), sorted(metadata["labels"]), status["phase"], conditions


async def test_things_take_the_same_course(planes):
    real = await course(planes["real"], "course-1")
    standin = await course(planes["stand-in"], "course-1")
    wrong = differences(real, standin)
    assert not wrong, "\n".join(wrong)
