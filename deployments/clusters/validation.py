"""Refuses a manifest that Kubernetes would refuse, naming the field. Pure.

Shape, types, missing and unknown fields come from the models of the official client, which are generated
from the published schema; names, labels and what must agree between fields are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubernetes.client import models
from pydantic import BaseModel, ValidationError

from deployments.clusters.errors import ClusterRejected
from deployments.clusters.port import Manifest
from deployments.clusters.quantities import parse

KINDS: Mapping[tuple[str, str], type[BaseModel]] = {
    ("v1", "Namespace"): models.V1Namespace,
    ("v1", "Service"): models.V1Service,
    ("v1", "Secret"): models.V1Secret,
    ("v1", "ConfigMap"): models.V1ConfigMap,
    ("v1", "ServiceAccount"): models.V1ServiceAccount,
    ("v1", "PersistentVolumeClaim"): models.V1PersistentVolumeClaim,
    ("v1", "ResourceQuota"): models.V1ResourceQuota,
    ("v1", "LimitRange"): models.V1LimitRange,
    ("networking.k8s.io/v1", "NetworkPolicy"): models.V1NetworkPolicy,
    ("policy/v1", "PodDisruptionBudget"): models.V1PodDisruptionBudget,
    ("apps/v1", "Deployment"): models.V1Deployment,
    ("batch/v1", "Job"): models.V1Job,
}
"""Kinds the local cluster takes. Deployment and Job make pods, Secret and ConfigMap feed them, a Namespace
holds them; the others are kept and shown, and have no effect on one machine."""
CLUSTER_WIDE = frozenset({"Namespace"})

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_LONGEST_NAME = 63
_VOLUME_KINDS = ("persistentVolumeClaim", "emptyDir", "hostPath", "secret", "configMap")


def validate(manifest: Manifest) -> None:
    """Raises ClusterRejected with the first field that is wrong."""
    key = (str(manifest.get("apiVersion")), str(manifest.get("kind")))
    if key not in KINDS:
        known = ", ".join(sorted(kind for _, kind in KINDS))
        raise ClusterRejected(
            f'no matches for kind "{key[1]}" in version "{key[0]}"; known kinds: {known}', field="kind"
        )
    _check_metadata(manifest)
    _check_shape(KINDS[key], manifest)
    if key[1] == "Deployment":
        _check_deployment(manifest["spec"])
    elif key[1] == "Job":
        _check_job(manifest["spec"])
    elif key[1] == "Service":
        _require("spec.ports", manifest.get("spec", {}).get("ports"))


def _refuse(field: str, message: str) -> ClusterRejected:
    return ClusterRejected(f"{field}: {message}", field=field)


def _require(field: str, value: Any) -> None:
    if not value:
        raise _refuse(field, "Required value")


def _check_metadata(manifest: Manifest) -> None:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        raise _refuse("metadata", "Required value")
    _require("metadata.name", metadata.get("name"))
    pattern = _SERVICE_NAME if manifest["kind"] == "Service" else _LABEL_NAME
    _check_name("metadata.name", metadata["name"], pattern)
    if manifest["kind"] in CLUSTER_WIDE:
        if metadata.get("namespace"):
            raise _refuse("metadata.namespace", f"a {manifest['kind']} has no namespace")
    else:
        _require("metadata.namespace", metadata.get("namespace"))
        _check_name("metadata.namespace", metadata["namespace"], _LABEL_NAME)
    _check_labels("metadata.labels", metadata.get("labels"))


def _check_name(field: str, name: Any, pattern: re.Pattern[str] = _LABEL_NAME) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        rule = "lower case letters, digits and '-', beginning and ending with a letter or digit"
        raise _refuse(field, f"Invalid value: {name!r}: must consist of {rule}")
    if len(name) > _LONGEST_NAME:
        raise _refuse(field, f"Invalid value: {name!r}: must be no more than {_LONGEST_NAME} characters")


def _check_labels(field: str, labels: Any) -> None:
    for key, value in (labels or {}).items():
        if not _LABEL_KEY.fullmatch(key) or len(key.rpartition("/")[2]) > _LONGEST_NAME:
            raise _refuse(f"{field}", f"Invalid value: {key!r}: not a label name")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value) or len(value) > _LONGEST_NAME:
            rule = f"at most {_LONGEST_NAME} letters, digits, '-', '_' or '.', letter or digit at both ends"
            raise _refuse(f"{field}.{key}", f"Invalid value: {value!r}: a label value is {rule}")


def _check_shape(model: type[BaseModel], manifest: Manifest) -> None:
    try:
        model.model_validate(_with_text_quantities(manifest))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        field = _path(found["loc"])
        words = {"missing": "Required value", "extra_forbidden": "unknown field"}
        raise _refuse(field, words.get(found["type"], found["msg"])) from error


def _path(location: Iterable[int | str]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def _with_text_quantities(value: Any, *, is_quantities: bool = False) -> Any:
    """Numbers among resource quantities as text: the API server takes both, the client's models one."""
    if isinstance(value, Mapping):
        return {
            key: _with_text_quantities(item, is_quantities=key in ("limits", "requests"))
            if not is_quantities
            else (str(item) if isinstance(item, int | float) else item)
            for key, item in value.items()
        }
    return [_with_text_quantities(item) for item in value] if isinstance(value, list | tuple) else value


def _check_deployment(spec: Mapping[str, Any]) -> None:
    if (spec.get("replicas") or 0) < 0:
        raise _refuse("spec.replicas", f"Invalid value: {spec['replicas']}: must be 0 or more")
    selector = (spec["selector"] or {}).get("matchLabels") or {}
    _require("spec.selector", selector)
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        raise _refuse(
            "spec.template.metadata.labels", f"`selector` does not match template labels: {selector}"
        )
    _check_template(spec["template"], restart_policies=("Always",))


def _check_job(spec: Mapping[str, Any]) -> None:
    for name in ("completions", "parallelism"):
        if spec.get(name) not in (None, 1):
            raise _refuse(
                f"spec.{name}", f"Unsupported value: {spec[name]}: the local cluster runs one pod a Job"
            )
    if (spec.get("backoffLimit") or 0) < 0:
        raise _refuse("spec.backoffLimit", f"Invalid value: {spec['backoffLimit']}: must be 0 or more")
    _check_template(spec["template"], restart_policies=("Never", "OnFailure"))
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or ()
    if rules and spec["template"]["spec"].get("restartPolicy") != "Never":
        raise _refuse("spec.template.spec.restartPolicy", 'must be "Never" when podFailurePolicy is used')
    for index, rule in enumerate(rules):
        field = f"spec.podFailurePolicy.rules[{index}]"
        _check_choice(f"{field}.action", rule.get("action"), ("FailJob", "Ignore", "Count"))
        if not rule.get("onExitCodes") and not rule.get("onPodConditions"):
            raise _refuse(field, "specifying one of onExitCodes and onPodConditions is required")
        if codes := rule.get("onExitCodes"):
            _check_choice(f"{field}.onExitCodes.operator", codes.get("operator"), ("In", "NotIn"))
            _require(f"{field}.onExitCodes.values", codes.get("values"))
            if codes["operator"] == "In" and 0 in codes["values"]:
                raise _refuse(f"{field}.onExitCodes.values", "must not be 0 for the In operator")


def _check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        supported = ", ".join(f'"{choice}"' for choice in choices)
        raise _refuse(field, f'Unsupported value: "{value}": supported values: {supported}')


def _check_template(template: Mapping[str, Any], *, restart_policies: tuple[str, ...]) -> None:
    _check_labels("spec.template.metadata.labels", (template.get("metadata") or {}).get("labels"))
    field = "spec.template.spec"
    spec = template.get("spec")
    if not isinstance(spec, Mapping):
        raise _refuse(field, "Required value")
    _check_choice(f"{field}.restartPolicy", spec.get("restartPolicy", "Always"), restart_policies)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        raise _refuse(f"{field}.terminationGracePeriodSeconds", "must be 0 or more")
    _require(f"{field}.containers", spec.get("containers"))
    for name in ("containers", "initContainers"):
        if len(spec.get(name) or ()) > (name == "containers"):
            raise _refuse(
                f"{field}.{name}", "the local cluster runs one container a pod, and no init containers"
            )
    volumes = _check_volumes(f"{field}.volumes", spec.get("volumes") or ())
    _check_container(f"{field}.containers[0]", spec["containers"][0], volumes=volumes)


def _check_volumes(field: str, volumes: Iterable[Mapping[str, Any]]) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        _check_name(f"{field}[{index}].name", volume.get("name"))
        if volume["name"] in names:
            raise _refuse(f"{field}[{index}].name", f'Duplicate value: "{volume["name"]}"')
        kinds = [name for name, value in volume.items() if name != "name" and value is not None]
        if len(kinds) != 1:
            raise _refuse(f"{field}[{index}]", "must specify exactly one volume type")
        _check_choice(f"{field}[{index}]", kinds[0], _VOLUME_KINDS)
        names.add(volume["name"])
    return names


def _check_container(field: str, container: Mapping[str, Any], *, volumes: set[str]) -> None:
    _check_name(f"{field}.name", container.get("name"))
    _require(f"{field}.image", container.get("image"))
    for index, variable in enumerate(container.get("env") or ()):
        if not _VARIABLE.fullmatch(variable.get("name") or ""):
            raise _refuse(f"{field}.env[{index}].name", f"Invalid value: {variable.get('name')!r}")
    for index, port in enumerate(container.get("ports") or ()):
        _check_port(f"{field}.ports[{index}].containerPort", port["containerPort"])
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        _check_mount(f"{field}.volumeMounts[{index}]", mount, volumes=volumes)
    _check_resources(f"{field}.resources", container.get("resources") or {})
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe := container.get(name):
            _check_probe(f"{field}.{name}", probe, readiness=name == "readinessProbe")


def _check_port(field: str, port: Any) -> None:
    if isinstance(port, int) and not 1 <= port <= 65535:
        raise _refuse(field, f"Invalid value: {port}: must be between 1 and 65535, inclusive")


def _check_mount(field: str, mount: Mapping[str, Any], *, volumes: set[str]) -> None:
    if mount.get("name") not in volumes:
        raise _refuse(f"{field}.name", f'Not found: "{mount.get("name")}"')
    _require(f"{field}.mountPath", mount.get("mountPath"))
    sub_path = mount.get("subPath") or ""
    if sub_path.startswith("/"):
        raise _refuse(f"{field}.subPath", f"Invalid value: {sub_path!r}: must be a relative path")
    if ".." in sub_path.split("/"):
        raise _refuse(f"{field}.subPath", f"Invalid value: {sub_path!r}: must not contain '..'")
    if mount.get("subPathExpr"):
        raise _refuse(f"{field}.subPathExpr", "the local cluster takes subPath only")


def _check_resources(field: str, resources: Mapping[str, Any]) -> None:
    amounts: dict[str, dict[str, Any]] = {}
    for kind in ("limits", "requests"):
        amounts[kind] = {}
        for name, quantity in (resources.get(kind) or {}).items():
            try:
                amounts[kind][name] = parse(quantity)
            except ValueError:
                raise _refuse(
                    f"{field}.{kind}.{name}", f"Invalid value: {quantity!r}: not a quantity"
                ) from None
            if amounts[kind][name] < 0:
                raise _refuse(f"{field}.{kind}.{name}", f"Invalid value: {quantity!r}: must be 0 or more")
    for name, amount in amounts["requests"].items():
        limit = amounts["limits"].get(name)
        if limit is not None and amount > limit:
            wanted = resources["requests"][name]
            raise _refuse(
                f"{field}.requests.{name}", f'Invalid value: "{wanted}": must be at most the {name} limit'
            )


def _check_probe(field: str, probe: Mapping[str, Any], *, readiness: bool) -> None:
    handlers = [name for name in ("httpGet", "tcpSocket", "exec", "grpc") if probe.get(name)]
    if len(handlers) != 1:
        raise _refuse(field, "must specify exactly one handler type")
    _check_choice(field, handlers[0], ("httpGet", "tcpSocket"))
    _check_port(f"{field}.{handlers[0]}.port", probe[handlers[0]].get("port"))
    if probe[handlers[0]].get("scheme", "HTTP") != "HTTP":
        raise _refuse(f"{field}.httpGet.scheme", "the local cluster asks over HTTP only")
    atleast: Mapping[str, int] = {
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 1,
        "successThreshold": 1,
        "initialDelaySeconds": 0,
    }
    for name, least in atleast.items():
        if probe.get(name) is not None and probe[name] < least:
            raise _refuse(f"{field}.{name}", f"Invalid value: {probe[name]}: must be {least} or more")
    if not readiness and probe.get("successThreshold") not in (None, 1):
        raise _refuse(f"{field}.successThreshold", "must be 1 but for readinessProbe")
