"""The chart, rendered by Helm's own engine."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import HelmValuesError

from deployments.clusters.kubernetes.access import CONTROLLER, READER, policy_rules
from deployments.clusters.port import MANAGED_BY, MANAGED_BY_LABEL
from deployments.clusters.site import Site
from deployments.reconcile.manifests import USER_ID
from marketplace.hardware.places import read_places
from runtimes import contract
from tests.helm import chart
from tests.helm.schemas import mistakes, name

ROOT = Path(__file__).parents[2]
VALUES = {"defaults": {}} | {file.name: chart.read_values(file) for file in chart.value_files()}
LONG_RUNNING = {"web", "worker", "beat", "watcher", "gateway"}


@pytest.fixture(params=VALUES, scope="module")
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VALUES[request.param]


@pytest.fixture(scope="module")
def manifests(values: dict[str, Any]) -> list[chart.Manifest]:
    return chart.render(values)


def pods(manifests: list[chart.Manifest]) -> dict[str, Mapping[str, Any]]:
    """The pod specifications by component."""
    return {
        manifest["metadata"]["labels"]["app.kubernetes.io/component"]: manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "Job")
    }


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def test_the_linter_finds_nothing(values: dict[str, Any]) -> None:
    assert chart.lint(values) == []


def test_every_object_satisfies_the_schemas_of_three_kubernetes_versions(
    manifests: list[chart.Manifest],
) -> None:
    assert [line for manifest in manifests for line in mistakes(manifest)] == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"wbe": {}}, "'wbe' not allowed"),
        ({"web": {"replica": 3}}, "'replica' not allowed"),
        ({"web": {"autoscaling": {"enable": True}}}, "'enable' not allowed"),
        ({"settings": {"SWEEP_SECOND": 2}}, "'SWEEP_SECOND' not allowed"),
        ({"scheduling": {"tolerations": [{"keys": "gpu"}]}}, "'keys' not allowed"),
        ({"secrets": {"databse": {}}}, "'databse' not allowed"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
        ({"web": {"url": "market.example.com"}}, "/web/url"),
        ({"gateway": {"url": "https://models.example.com/v1"}}, "/gateway/url"),
        ({"web": {"replicas": 0}}, "/web/replicas"),
        ({"expose": {"by": "httpRoute"}}, "/expose/parentRefs"),
        (
            {"storage": {"existingClaim": "weights", "volume": {"hostPath": {"path": "/w"}}}},
            "/storage/volume",
        ),
        ({"settings": {"LOG_LEVEL": "LOUD"}}, "/settings/LOG_LEVEL"),
        ({"web": {"resources": {"limits": {"memory": "1 GB"}}}}, "/web/resources/limits/memory"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmValuesError, match=re.escape(named)):
        chart.render(values)


def test_every_value_is_described_and_nothing_else_is_taken() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    vague = [place for place, part in parts_of(schema, "$") if not says_enough(part)]
    assert vague == []


def parts_of(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of a value in the document, with where it stands."""
    for key in ("properties", "$defs"):
        for name_, part in schema.get(key, {}).items():
            yield f"{place}.{key}.{name_}", part
            yield from parts_of(part, f"{place}.{key}.{name_}")
    if isinstance(schema.get("items"), Mapping):
        yield from parts_of(schema["items"], f"{place}.items")


def says_enough(part: Mapping[str, Any]) -> bool:
    if part.get("type") == "object":
        # False, or a map whose keys are the provider's to choose (labels) and whose values have a form.
        closed = part.get("additionalProperties") is False or isinstance(
            part.get("additionalProperties"), Mapping
        )
        return closed and "description" in part
    return "description" in part or "$ref" in part


def test_every_readme_setting_has_its_place_in_the_chart() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", section, flags=re.MULTILINE))
    of_pods = {"HEARTBEAT_PATH"}
    of_one_machine = {"DEBUG", "LOCAL_CLUSTER_CPU", "LOCAL_CLUSTER_MEMORY", "LOCAL_CLUSTER_IMAGES"}
    in_image = {"STATIC_ROOT"}
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    chosen = set(schema["properties"]["settings"]["properties"])
    rendered = chart.render(VALUES["external-secrets.yaml"])
    set_by_chart = {
        variable
        for manifest in rendered
        if manifest["metadata"]["name"].endswith("-settings")
        for variable in manifest.get("data", {})
    } - {"DJANGO_SETTINGS_MODULE", "PYTHONUNBUFFERED"}
    secret = {
        variable["name"].removesuffix("_FILE")
        for pod in pods(rendered).values()
        for container in containers(pod)
        for variable in container["env"]
    }
    assert chosen & (set_by_chart | secret) == set()
    assert (chosen | set_by_chart | secret) - of_pods == listed - of_one_machine - in_image


def test_large_numbers_reach_the_settings_as_they_were_written() -> None:
    rendered = chart.render({"settings": {"MAX_UPLOAD_BYTES": 200_000_000, "SWEEP_SECONDS": 2.5}})
    data = next(item["data"] for item in rendered if item["metadata"]["name"].endswith("-settings"))
    assert (data["MAX_UPLOAD_BYTES"], data["SWEEP_SECONDS"]) == ("200000000", "2.5")


def test_every_container_satisfies_the_restricted_level(manifests: list[chart.Manifest]) -> None:
    for component, pod in pods(manifests).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, component
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, component
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (component, container["name"])
            assert container["resources"]["limits"]["memory"], (component, container["name"])
            assert "latest" not in container["image"]


def test_no_secret_is_in_the_environment(manifests: list[chart.Manifest]) -> None:
    for component, pod in pods(manifests).items():
        for container in containers(pod):
            for variable in container["env"]:
                assert "secretKeyRef" not in variable.get("valueFrom", {}), (component, variable)


def test_only_components_that_speak_to_the_cluster_have_a_token(manifests: list[chart.Manifest]) -> None:
    with_token = {name_ for name_, pod in pods(manifests).items() if pod["automountServiceAccountToken"]}
    assert with_token == {"web", "worker", "watcher"}


def test_beat_and_watcher_are_one_and_never_two(manifests: list[chart.Manifest]) -> None:
    alone = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]
        for item in manifests
        if item["kind"] == "Deployment" and item["spec"].get("strategy", {}).get("type") == "Recreate"
    }
    assert {component: spec["replicas"] for component, spec in alone.items()} == {"beat": 1, "watcher": 1}


def test_selectors_find_the_pods_of_their_component_and_no_other(manifests: list[chart.Manifest]) -> None:
    labels = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]["template"]["metadata"][
            "labels"
        ]
        for item in manifests
        if item["kind"] in ("Deployment", "Job")
    }
    for item in manifests:
        selector = item["spec"].get("selector") if "spec" in item else None
        if not selector or item["kind"] == "ServiceMonitor":
            continue
        wanted = selector.get("matchLabels", selector)
        found = {component for component, own in labels.items() if wanted.items() <= own.items()}
        assert found == {item["metadata"]["labels"]["app.kubernetes.io/component"]}, name(item)


def test_every_pod_is_under_a_network_policy_of_its_own() -> None:
    rendered = chart.render({})
    policies = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]
        for item in rendered
        if item["kind"] == "NetworkPolicy"
    }
    assert set(policies) == LONG_RUNNING | {"migrate", "settings"}
    everything = policies.pop("settings")
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everything and "egress" not in everything
    assert {component for component, spec in policies.items() if "ingress" in spec} == {"web", "gateway"}


def test_a_changed_place_makes_a_new_job_and_an_unchanged_release_none() -> None:
    def job(**values: Any) -> str:
        return next(item["metadata"]["name"] for item in chart.render(values) if item["kind"] == "Job")

    assert job() == job(web={"replicas": 5})
    assert len({job(), job(places="[[region]]"), job(image={"tag": "0.2.0"})}) == 3


def test_names_fit_whatever_the_release_is_called() -> None:
    manifests = chart.render(
        {"fullnameOverride": "m" * 40, "storage": {"volume": {"hostPath": {"path": "/w"}}}}
    )
    assert [item for item in manifests if len(item["metadata"]["name"]) > 63] == []


def test_the_notes_tell_what_is_missing() -> None:
    assert "create secret generic marketplace" in chart.notes({})
    assert "no `places` were given" in chart.notes({})
    assert "no `places` were given" not in chart.notes({"places": "[[region]]"})


def test_the_places_are_a_file_that_the_seed_can_read(
    manifests: list[chart.Manifest], tmp_path: Path
) -> None:
    texts = [item["data"]["places.toml"] for item in manifests if "places.toml" in item.get("data", {})]
    (tmp_path / "places.toml").write_text("".join(texts))
    sites = [Site.of(row.kind, row.configuration) for row in read_places(tmp_path / "places.toml").cluster]
    assert [site for site in sites if site.storage is None or not site.confines] == []


def test_without_places_there_is_this_cluster_with_the_storage_of_the_chart() -> None:
    volume = {"nfs": {"server": "10.0.0.5", "path": "/exports/marketplace"}}
    rendered = chart.render({"storage": {"volume": volume}})
    text = next(item["data"]["places.toml"] for item in rendered if "places.toml" in item.get("data", {}))
    assert tomllib.loads(text)["cluster"] == [
        {
            "slug": "default",
            "region": "default",
            "kind": "kubernetes",
            "configuration": {
                "kubeconfig": "",
                "installation": "shop-marketplace-marketplace",
                "caller_namespaces": {"kubernetes.io/metadata.name": "marketplace"},
                "storage": volume,
            },
        }
    ]


def test_every_kubeconfig_that_places_name_is_mounted_where_clusters_are_spoken_to() -> None:
    with_them = {
        component
        for component, pod in pods(chart.render(VALUES["full.yaml"])).items()
        if {"name": "kubeconfigs", "mountPath": "/etc/marketplace/kubeconfigs", "readOnly": True}
        in pod["containers"][0]["volumeMounts"]
    }
    assert with_them == {"web", "worker", "watcher"}


def test_each_component_has_the_secrets_that_it_needs_and_no_other() -> None:
    rendered = pods(chart.render(VALUES["external-secrets.yaml"]))
    held = {
        component: {
            item["path"]
            for volume in pod["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            for item in source["secret"]["items"]
        }
        for component, pod in rendered.items()
    }
    assert held == {
        "web": {"database", "broker", "cache", "secretKey", "hub"},
        "worker": {"database", "broker", "cache", "hub"},
        "watcher": {"database", "broker"},
        "migrate": {"database", "broker"},
        "gateway": {"database"},
        "beat": {"broker"},
    }


def test_the_gateway_reaches_its_database_and_models_and_nothing_else() -> None:
    database = [{"ipBlock": {"cidr": "10.1.0.0/24"}}]
    rendered = chart.render({"networkPolicy": {"database": {"ports": [5432], "to": database}}})
    (policy,) = (
        item["spec"]
        for item in rendered
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-gateway")
    )
    assert policy["egress"] == [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": 5432}], "to": database},
        {
            "ports": [{"port": contract.PORT}],
            "to": [{"namespaceSelector": {"matchLabels": {MANAGED_BY_LABEL: MANAGED_BY}}}],
        },
    ]


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("ingress.yaml", {contract.OPENAI_PATH, "/workspaces"}),
        ("gateway-api.yaml", {contract.OPENAI_PATH}),  # on the portal's own host: no workspaces
    ],
)
def test_of_the_gateway_only_what_customers_call_is_public(name: str, public: set[str]) -> None:
    """Metrics and readiness are for the inside."""
    routes = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]["rules"]
        for item in chart.render(VALUES[name])
        if item["kind"] in ("Ingress", "HTTPRoute")
    }
    paths = {
        component: [
            part.get("value") or part["path"]
            for rule in rules
            for part in (
                rule["http"]["paths"] if "http" in rule else [match["path"] for match in rule["matches"]]
            )
        ]
        for component, rules in routes.items()
    }
    assert {component: set(found) for component, found in paths.items()} == {"web": {"/"}, "gateway": public}


def test_the_chart_is_of_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    described = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert (described["appVersion"], described["version"]) == (version, version)


def test_containers_and_models_run_as_the_same_user(manifests: list[chart.Manifest]) -> None:
    """What one writes to the storage the other must read and replace."""
    assert {pod["securityContext"]["runAsUser"] for pod in pods(manifests).values()} == {USER_ID}


def test_the_roles_hold_what_the_cluster_port_asks_for_and_no_more() -> None:
    roles = {
        item["metadata"]["name"].rpartition("-")[2]: item["rules"]
        for item in chart.render({})
        if item["kind"] == "ClusterRole"
    }
    assert roles == {"controller": policy_rules(CONTROLLER), "reader": policy_rules(READER)}


def test_the_roles_can_be_left_to_an_administrator() -> None:
    kinds = {item["kind"] for item in chart.render({"access": {"create": False}})}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}


def routed_paths(manifests: list[chart.Manifest]) -> set[str]:
    """Where the gateway is reached from outside."""
    found: set[str] = set()
    for manifest in manifests:
        if manifest["metadata"]["labels"].get("app.kubernetes.io/component") != "gateway":
            continue
        if manifest["kind"] == "Ingress":
            found |= {path["path"] for rule in manifest["spec"]["rules"] for path in rule["http"]["paths"]}
        elif manifest["kind"] == "HTTPRoute":
            matches = [match for rule in manifest["spec"]["rules"] for match in rule["matches"]]
            found |= {match["path"]["value"] for match in matches}
    return found


@pytest.mark.parametrize("by", ["ingress", "httpRoute"])
def test_workspaces_are_reached_from_outside_only_on_a_host_that_is_not_the_portals(by: str) -> None:
    expose = {"by": by, "parentRefs": [{"name": "public"}]}
    portal, models = "https://market.example.com", "https://models.example.com"

    apart = chart.render({"expose": expose, "web": {"url": portal}, "gateway": {"url": models}})
    together = chart.render({"expose": expose, "web": {"url": portal}, "gateway": {"url": portal}})

    assert routed_paths(apart) == {"/v1", "/workspaces"}
    assert routed_paths(together) == {"/v1"}
