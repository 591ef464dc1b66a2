"""Refuses objects that Kubernetes refuses: names, labels, amounts, and what must agree or may not change.

The shape (unknown fields, types, what is required) is the schema's affair. Here stand the rules that
deployments and jobs meet in practice, in Kubernetes' words. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema

from deployments.clusters.quantities import parse
from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.refusals import Cause
from tests.kubernetes.api.schema import missing
from tests.kubernetes.api.selectors import label_selector

Value = Mapping[str, Any]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"(.+/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LABEL_NAMED = frozenset({"Namespace", "Service"})
_NAMES_WITH_COLONS = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
_POLICIES = {"Deployment": ("Always",), "ReplicaSet": ("Always",), "Job": ("OnFailure", "Never")}


def problems_of(kind: Kind, value: Value) -> list[Cause]:
    """Everything wrong with a complete object (defaults are filled in)."""
    found = [*_metadata(kind, value["metadata"])]
    if kind.validation:
        return found + _custom(kind, value)
    lacking = [Cause.required(path) for path in missing(kind.schema, value) if _is_asked_for(path)]
    if lacking:  # the rules below rely on what is required
        return found + lacking
    spec = value.get("spec") or {}
    check = _SPECS.get(kind.kind)
    return found + (list(check(spec)) if check else [])


def problems_of_change(kind: Kind, old: Value, new: Value) -> list[Cause]:
    """Fields that may not change and do."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    found = []
    for name in _IMMUTABLE.get(kind.kind, ()):
        if name == "template" and before.get("suspend") and not (old.get("status") or {}).get("startTime"):
            continue  # a Job that has never run
        if before.get(name) != after.get(name):
            found.append(_immutable(f"spec.{name}", after.get(name)))
    if kind.kind == "Pod":
        found += _pod_change(before, after)
    if kind.kind in ("ConfigMap", "Secret") and old.get("immutable") and old.get("data") != new.get("data"):
        found.append(
            Cause("data", "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
        )
    return found


def _immutable(field: str, value: Any) -> Cause:
    shown = json.dumps(value, separators=(",", ":"))
    return Cause(field, f"Invalid value: {shown}: field is immutable")


_IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("selector",),
    "ReplicaSet": ("selector",),
    "Job": (
        "completions",
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
    ),
    "PersistentVolumeClaim": ("accessModes", "selector", "storageClassName", "volumeMode"),
}


def _pod_change(before: Value, after: Value) -> Iterator[Cause]:
    free = ("containers", "initContainers", "tolerations", "activeDeadlineSeconds", "nodeName")
    for name in sorted({*before, *after} - set(free)):
        if before.get(name) != after.get(name):
            why = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, ..."
            yield Cause("spec", why, "FieldValueForbidden")
            return


def _is_asked_for(path: str) -> bool:
    """Whether Kubernetes insists on a field that its schema calls required."""
    return not path.startswith(("status", "metadata")) and not path.endswith(".protocol")


def _metadata(kind: Kind, metadata: Value) -> Iterator[Cause]:
    name = metadata["name"]
    pattern, rule = _SUBDOMAIN, _SUBDOMAIN_RULE
    longest = 253
    if kind.kind in _LABEL_NAMED:
        pattern, rule, longest = _LABEL, _LABEL_RULE, 63
    if kind.kind in _NAMES_WITH_COLONS:
        if "/" in name or "%" in name:
            yield Cause("metadata.name", f"Invalid value: \"{name}\": may not contain '/' or '%'")
    elif not pattern.fullmatch(name):
        yield Cause("metadata.name", f'Invalid value: "{name}": {rule}')
    if len(name) > longest:
        why = f'Invalid value: "{name}": must be no more than {longest} bytes'
        yield Cause("metadata.name", why)
    yield from _labels("metadata.labels", metadata.get("labels"))


def _labels(field: str, labels: Value | None) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        if not _KEY.fullmatch(key):
            why = (
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
            )
            yield Cause(
                field, f"Invalid value: \"{key}\": {why}with an alphanumeric character (e.g. 'MyName')"
            )
        elif len(key.rpartition("/")[2]) > 63:
            yield Cause(field, f'Invalid value: "{key}": name part must be no more than 63 bytes')
        if not _VALUE.fullmatch(value or ""):
            yield Cause(field, f'Invalid value: "{value}": {_VALUE_RULE}')
        elif len(value or "") > 63:
            yield Cause(field, f'Invalid value: "{value}": must be no more than 63 bytes')


def _custom(kind: Kind, value: Value) -> list[Cause]:
    """A custom resource against its own schema."""
    document = {"apiVersion": kind.api_version, "kind": kind.kind, **value}
    found = []
    for error in jsonschema.Draft7Validator(kind.validation).iter_errors(document):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        path = path.removeprefix(".")
        if error.validator == "required":
            name = next(item for item in error.validator_value if item not in error.instance)
            found.append(Cause.required(f"{path}.{name}".removeprefix(".")))
        else:
            shown = json.dumps(error.instance, separators=(",", ":"))
            found.append(Cause(path, f"Invalid value: {shown}: {_wrong(path, error)}"))
    return found


def _wrong(path: str, error: jsonschema.ValidationError) -> str:
    if error.validator == "pattern":
        return f"{path} in body should match '{error.validator_value}'"
    if error.validator == "maxLength":
        return f"{path}: Too long: may not be more than {error.validator_value} bytes"
    if error.validator == "type":
        return f"{path} in body must be of type {error.validator_value}"
    return str(error.message)


def _replicas(spec: Value) -> Iterator[Cause]:
    if (spec.get("replicas") or 0) < 0:
        yield _not_negative("spec.replicas", spec["replicas"])


def _not_negative(field: str, value: Any) -> Cause:
    return Cause(field, f"Invalid value: {value}: must be greater than or equal to 0")


def _deployment(spec: Value) -> Iterator[Cause]:
    yield from _replicas(spec)
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        shown = json.dumps(selector, separators=(",", ":"))
        yield Cause("spec.selector", f"Invalid value: {shown}: empty selector is invalid for deployment")
        return
    if wrong := list(_labels("spec.selector.matchLabels", selector.get("matchLabels"))):
        shown = json.dumps(selector, separators=(",", ":"), ensure_ascii=False)
        yield from wrong
        yield Cause("spec.selector", f"Invalid value: {shown}: invalid label selector")
        return
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not label_selector(selector)(labels):
        shown = json.dumps(labels, separators=(",", ":"))
        why = f"Invalid value: {shown}: `selector` does not match template `labels`"
        yield Cause("spec.template.metadata.labels", why)
    yield from _template(spec, policies=_POLICIES["Deployment"])


def _job(spec: Value) -> Iterator[Cause]:
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds"):
        if (spec.get(name) or 0) < 0:
            yield _not_negative(f"spec.{name}", spec[name])
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield Cause.required("spec.completions")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy == "Always":
        # Named by the field that the customer left out: the default does not fit a Job.
        yield Cause(
            "spec.template.spec.restartPolicy",
            'Required value: valid values: "OnFailure", "Never"',
            "FieldValueRequired",
        )
        return
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or ()
    if rules and policy != "Never":
        why = f'Invalid value: "{policy}": only "Never" is supported when podFailurePolicy is specified'
        yield Cause("spec.template.spec.restartPolicy", why)
    names = {
        item.get("name")
        for part in ("containers", "initContainers")
        for item in spec["template"]["spec"].get(part) or ()
    }
    for index, rule in enumerate(rules):
        yield from _rule(f"spec.podFailurePolicy.rules[{index}]", rule, containers=names)
    yield from _template(spec, policies=_POLICIES["Job"])


def _rule(field: str, rule: Value, *, containers: set[Any]) -> Iterator[Cause]:
    if bool(rule.get("onExitCodes")) == bool(rule.get("onPodConditions")):
        why = "Invalid value: specifying one of OnExitCodes and OnPodConditions is required"
        yield Cause(field, why)
    codes = rule.get("onExitCodes") or {}
    name = codes.get("containerName")
    if name is not None and name not in containers:
        rule = "must be one of the container or initContainer names in the pod template"
        why = f'Invalid value: "{name}": {rule}'
        yield Cause(f"{field}.onExitCodes.containerName", why)
    if codes.get("operator") == "In" and 0 in (codes.get("values") or ()):
        yield Cause(
            f"{field}.onExitCodes.values[{codes['values'].index(0)}]",
            "Invalid value: 0: must not be 0 for the In operator",
        )
    if list(codes.get("values") or ()) != sorted(codes.get("values") or ()):
        yield Cause(f"{field}.onExitCodes.values", "Invalid value: must be ordered")


def _template(spec: Value, *, policies: tuple[str, ...]) -> Iterator[Cause]:
    template = spec["template"]
    labels = (template.get("metadata") or {}).get("labels")
    yield from _labels("spec.template.metadata.labels", labels)
    policy = template["spec"].get("restartPolicy")
    if policy not in policies:
        names = ", ".join(f'"{name}"' for name in policies)
        yield Cause(
            "spec.template.spec.restartPolicy",
            f'Unsupported value: "{policy}": supported values: {names}',
            "FieldValueNotSupported",
        )
    yield from _pod_spec(template["spec"], "spec.template.spec")


def _pod(spec: Value) -> Iterator[Cause]:
    yield from _pod_spec(spec, "spec")


def _pod_spec(spec: Value, field: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield Cause.required(f"{field}.containers")
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or ()):
            place = f"{field}.{part}[{index}]"
            if container["name"] in seen:
                yield Cause(f"{place}.name", f'Duplicate value: "{container["name"]}"', "FieldValueDuplicate")
            seen.add(container["name"])
            yield from _container(container, place, volumes)


def _container(container: Value, field: str, volumes: set[str]) -> Iterator[Cause]:
    if not _LABEL.fullmatch(container["name"]):
        yield Cause(f"{field}.name", f'Invalid value: "{container["name"]}": {_LABEL_RULE}')
    if not container.get("image"):
        yield Cause.required(f"{field}.image")
    for index, port in enumerate(container.get("ports") or ()):
        if not 1 <= port["containerPort"] <= 65535:
            yield Cause(f"{field}.ports[{index}].containerPort", _PORT.format(port["containerPort"]))
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount["name"] not in volumes:
            yield Cause(
                f"{field}.volumeMounts[{index}].name", f'Not found: "{mount["name"]}"', "FieldValueNotFound"
            )
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for name, wanted in (resources.get("requests") or {}).items():
        if name in limits and parse(wanted) > parse(limits[name]):
            yield Cause(
                f"{field}.resources.requests",
                f'Invalid value: "{wanted}": must be less than or equal to {name} limit of {limits[name]}',
            )
        elif "/" in name and parse(wanted) != parse(limits.get(name, 0)):
            yield Cause(f"{field}.resources.limits", f"Required value: Limit must be set for {name}")


_PORT = "Invalid value: {}: must be between 1 and 65535, inclusive"


def _service(spec: Value) -> Iterator[Cause]:
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield Cause.required("spec.ports")
    for index, port in enumerate(spec.get("ports") or ()):
        for name in ("port", "targetPort"):
            number = port.get(name)
            if isinstance(number, int) and not 1 <= number <= 65535:
                yield Cause(f"spec.ports[{index}].{name}", _PORT.format(number))
        if len(spec["ports"]) > 1 and not port.get("name"):
            yield Cause.required(f"spec.ports[{index}].name")


_SPECS: Mapping[str, Callable[[Value], Iterator[Cause]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _deployment,
    "Job": _job,
    "Pod": _pod,
    "Service": _service,
}
