"""Every sample becomes objects that Kubernetes takes: by the published schemas of three versions, by the
rules of its restricted Pod Security level, and, where one is given, by a real API server.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from django.core.management import CommandError, call_command

from deployments.samples.reading import Built, build_samples
from runtimes.contract import ServingEnvironment, TuningEnvironment

CRD = Path(__file__).parents[2] / "kubernetes" / "ipujob_crd.yaml"
VERSIONS = ("1.30", "1.33", "1.36")
"""The oldest that we run on, the newest, and one between."""
NAMES = [
    "chat-on-a-gpu-slice",
    "chat-on-amd",
    "chat-on-four-gpus",
    "chat-on-one-gpu",
    "embeddings-on-an-ipu-card",
    "embeddings-on-an-ipu-pod",
    "embeddings-on-cpu",
    "tuning-on-an-ipu-pod",
    "tuning-on-four-nodes",
    "tuning-on-one-gpu",
]
Object = dict[str, Any]


@cache
def samples() -> dict[str, Built]:
    return {sample.name: sample for sample in build_samples()}


def plain(value: Any) -> Any:
    """As JSON would show it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def objects(name: str) -> list[Object]:
    sample = samples()[name]
    return [plain(dict(manifest)) for manifest in (*sample.shared, *sample.own)]


def workload(name: str) -> Object:
    (found,) = (item for item in objects(name) if item["kind"] in ("Deployment", "Job", "IPUJob"))
    return found


def template(manifest: Object) -> Object:
    spec = manifest["spec"]
    found: Object = (spec["workers"] if manifest["kind"] == "IPUJob" else spec)["template"]
    return found


def pod_of(name: str) -> Object:
    """A pod as a controller would make it from the workload's template."""
    found = template(workload(name))
    metadata = {**found["metadata"], "name": "pod", "namespace": workload(name)["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": found["spec"]}


def test_there_is_a_sample_of_every_way_to_run() -> None:
    assert sorted(samples()) == NAMES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_takes_it(name: str, version: str) -> None:
    for item in objects(name):
        checked = pod_of(name) if item["kind"] == "IPUJob" else item
        kubernetes_validate.validate(checked, version, strict=True)


def test_the_published_schema_would_refuse_a_typing_error() -> None:
    pod = pod_of("chat-on-one-gpu")
    pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"slep": {"seconds": 5}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", [name for name in NAMES if "ipu-pod" in name])
def test_an_ipu_job_is_what_its_definition_asks_for(name: str) -> None:
    definition = yaml.safe_load(CRD.read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate(workload(name), schema)
    spec = pod_of(name)["spec"]
    assert spec["hostIPC"] is True
    assert spec["nodeSelector"] == {"vipu-ctrl": "pod005"}
    assert not any("ipu" in key for key in spec["containers"][0]["resources"]["limits"])


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("chat-on-one-gpu", {"nvidia.com/gpu": "1"}),
        ("chat-on-four-gpus", {"nvidia.com/gpu": "4"}),
        ("chat-on-a-gpu-slice", {"nvidia.com/mig-1g.10gb": "1"}),
        ("chat-on-amd", {"amd.com/gpu": "1"}),
        ("embeddings-on-an-ipu-card", {"c600.graphcore.ai/ipu": "1"}),
        ("embeddings-on-cpu", {}),
        ("tuning-on-four-nodes", {"nvidia.com/gpu": "8"}),
    ],
)
def test_devices_are_asked_for_by_the_name_of_their_plug_in(name: str, devices: dict[str, str]) -> None:
    limits = dict(pod_of(name)["spec"]["containers"][0]["resources"]["limits"])
    del limits["cpu"], limits["memory"]
    assert limits == devices


@pytest.mark.parametrize("name", [name for name in NAMES if "ipu-pod" not in name])
def test_pods_meet_the_restricted_level(name: str) -> None:
    """Every rule of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    spec = pod_of(name)["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in spec["volumes"]:
        (kind,) = volume.keys() - {"name"}
        assert kind in ("persistentVolumeClaim", "emptyDir")
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", NAMES)
def test_a_pods_namespace_admits_it(name: str) -> None:
    (namespace,) = (item for item in objects(name) if item["kind"] == "Namespace")
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == ("privileged" if "ipu-pod" in name else "restricted")
    assert {item["metadata"].get("namespace", namespace["metadata"]["name"]) for item in objects(name)} == {
        namespace["metadata"]["name"]
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_runtime_understands_what_its_container_is_told(name: str) -> None:
    environment = {
        variable["name"]: variable.get("value", "10.0.0.1")
        for variable in pod_of(name)["spec"]["containers"][0]["env"]
    }
    told = TuningEnvironment if name.startswith("tuning") else ServingEnvironment
    assert told.from_environment(environment).model_dir == "/model"


@pytest.mark.parametrize("name", NAMES)
def test_what_only_a_claim_or_a_policy_can_reach_is_there(name: str) -> None:
    there = {(item["kind"], item["metadata"]["name"]) for item in objects(name)}
    for volume in pod_of(name)["spec"]["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            assert ("PersistentVolumeClaim", claim["claimName"]) in there
    assert ("NetworkPolicy", "closed") in there


def printed(*arguments: str) -> str:
    output = io.StringIO()
    call_command("manifests", *arguments, stdout=output)
    return output.getvalue()


def test_they_are_printed_as_yaml_without_a_database() -> None:
    text = printed()
    assert list(yaml.safe_load_all(text)) == [item for name in NAMES for item in objects(name)]
    assert [line.split(":")[0].removeprefix("# ") for line in text.splitlines() if line[0] == "#"] == NAMES


def test_one_is_printed_by_its_name() -> None:
    assert list(yaml.safe_load_all(printed("chat-on-amd"))) == objects("chat-on-amd")


def test_a_sample_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="There is no sample chat-on-mars; there are chat-on-a-gpu-slice"):
        printed("chat-on-mars")


def test_places_that_lack_a_pool_are_named(tmp_path: Path) -> None:
    places = tmp_path / "places.toml"
    places.write_text(
        '[[region]]\nslug = "a"\nname = "A"\n[[cluster]]\nslug = "a"\nregion = "a"\nkind = "kubernetes"\n'
    )
    with pytest.raises(CommandError, match=r"chat-on-a-gpu-slice.toml: there is no .* 'a100-mig-10g-1'"):
        printed("--places", str(places))
