"""Every program of the chart, run as the chart says: its arguments, environment, secrets and probes.

Against the embedded PostgreSQL and Valkey, with the packages of the image alone.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from marketplace.embedded.addresses import host_and_port, with_free_port
from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services
from tests.helm import chart
from tests.helm.image import make_environment
from tests.helm.pods import Node, stop
from tests.processes import wait_until

VALUES = {
    "staff": {"secret": "first-staff"},
    "worker": {"processes": 1},
}
COMPONENTS = ("beat", "gateway", "watcher", "web", "worker")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    # Not tmp_path: its folders are closed to the user that PostgreSQL runs as when we are root.
    root = Path(tempfile.mkdtemp(prefix="marketplace-chart-"))
    try:
        with running_services(Home(root), durable=False):
            yield Home(root)
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def manifests() -> list[chart.Manifest]:
    return chart.render(VALUES)


@pytest.fixture(scope="module")
def node(home: Home, manifests: list[chart.Manifest]) -> Node:
    web = host_and_port(with_free_port("http://127.0.0.1:8080"))[1]
    gateway = host_and_port(with_free_port("http://127.0.0.1:8081", avoid=frozenset({web})))[1]
    everything = {
        "database-url": home.database_url,
        "broker-url": home.broker_url,
        "secret-key": secrets.token_urlsafe(50),
    }
    staff = {"username": "staff@example.com", "password": "a long enough one 7"}
    return Node(
        root=home.root / "node",
        programs=make_environment(home.root / "image"),
        manifests=manifests,
        secrets={"marketplace": everything, "first-staff": staff},
        ports={8080: web, 8081: gateway},
    )


def pod_of(component: str, manifests: list[chart.Manifest]) -> Mapping[str, Any]:
    return next(
        item["spec"]["template"]["spec"]
        for item in manifests
        if item["kind"] in ("Deployment", "Job")
        and item["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )


@pytest.fixture(scope="module")
def migrated(node: Node, manifests: list[chart.Manifest]) -> str:
    """The Job, run to its end; what its containers printed."""
    pod = pod_of("migrate", manifests)
    node.mount(pod)
    return "".join(
        node.run(container, seconds=120) for container in [*pod["initContainers"], *pod["containers"]]
    )


@pytest.mark.timeout(300)
def test_pods_wait_for_the_tables_and_say_so(node: Node, manifests: list[chart.Manifest], home: Home) -> None:
    connection = psycopg2.connect(host=str(home.sockets), user="postgres", dbname="postgres")
    connection.autocommit = True
    connection.cursor().execute("CREATE DATABASE empty")
    connection.close()
    waiting = pod_of("web", manifests)["initContainers"][0]
    node.mount(pod_of("web", manifests))
    address = home.database_url.rpartition("/")[0] + "/empty"
    environment = {"DATABASE_URL": address, "DATABASE_URL_FILE": ""}
    impatient = {**waiting, "args": [*waiting["args"][:-1], "0"]}
    impatient["env"] = [
        variable for variable in waiting["env"] if variable["name"] != "DATABASE_URL_FILE"
    ] + [{"name": name, "value": value} for name, value in environment.items() if value]
    with pytest.raises(AssertionError, match=r"not within 0 s: \d+ migrations are missing, the first is"):
        node.run(impatient, seconds=60)


@pytest.mark.timeout(300)
def test_the_job_makes_the_tables_the_staff_and_the_catalog(migrated: str) -> None:
    assert "Applying accounts.0001_initial... OK" in migrated
    assert "staff@example.com: made" in migrated
    assert "regions: " in migrated


@pytest.mark.timeout(300)
def test_the_job_may_run_again(migrated: str, node: Node, manifests: list[chart.Manifest]) -> None:
    pod = pod_of("migrate", manifests)
    printed = [node.run(container, seconds=120) for container in [*pod["initContainers"], *pod["containers"]]]
    assert "No migrations to apply" in printed[0]
    assert printed[1] == "staff@example.com: was there, left as it is\n"
    assert "\n0 created, 0 updated, " in f"\n{printed[2]}"


@pytest.mark.timeout(300)
def test_every_component_starts_passes_its_probes_and_stops_in_time(
    migrated: str, node: Node, manifests: list[chart.Manifest]
) -> None:
    pods = {component: pod_of(component, manifests) for component in COMPONENTS}
    running = {}
    codes = {}
    try:
        for component, pod in pods.items():
            node.mount(pod)
            for waiting in pod.get("initContainers", []):
                assert "the database is up to date" in node.run(waiting, seconds=60)
            running[component] = node.start(pod["containers"][0])
        for component, pod in pods.items():
            container = pod["containers"][0]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if kind in container:
                    wait_until(
                        lambda probe=container[kind], container=container: node.passes(probe, container),
                        seconds=60,
                        what=f"{kind} of {component}: {node.log(container)}",
                    )
        for component, process in running.items():
            assert process.poll() is None, node.log(pods[component]["containers"][0])
        with urllib.request.urlopen(f"http://127.0.0.1:{node.ports[8080]}/sign-in/", timeout=30) as answer:
            assert "Sign in" in answer.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{node.ports[8081]}/metrics", timeout=30) as answer:
            assert "gateway_calls_in_progress" in answer.read().decode()
    finally:
        for component, process in running.items():
            codes[component] = stop(process, seconds=pods[component]["terminationGracePeriodSeconds"])
    assert {component: code in (0, -15) for component, code in codes.items()} == dict.fromkeys(
        COMPONENTS, True
    ), codes
