"""Checks one object against the schemas of several Kubernetes versions, strictly: no unknown field passes."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema
import kubernetes_validate

from tests.helm.chart import KUBERNETES_VERSIONS, Manifest

_HOST = {
    "type": "string",
    "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
_NAME = {"type": "string", "minLength": 1, "maxLength": 253}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def _strict(properties: dict[str, object], *, required: list[str]) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


# Kinds that Kubernetes itself does not know: the fields that the chart uses, as they are documented.
CUSTOM_KINDS = {
    # https://gateway-api.sigs.k8s.io/reference/spec/#httproute
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _strict(
        {
            "parentRefs": {
                "type": "array",
                "maxItems": 32,
                "items": _strict(
                    {
                        "name": _NAME,
                        "namespace": _NAME,
                        "sectionName": _NAME,
                        "port": _PORT,
                        "group": {"type": "string"},
                        "kind": _NAME,
                    },
                    required=["name"],
                ),
            },
            "hostnames": {"type": "array", "maxItems": 16, "items": _HOST},
            "rules": {
                "type": "array",
                "minItems": 1,
                "maxItems": 16,
                "items": _strict(
                    {
                        "matches": {
                            "type": "array",
                            "items": _strict(
                                {
                                    "path": _strict(
                                        {
                                            "type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                                            "value": {"type": "string", "pattern": "^/", "maxLength": 1024},
                                        },
                                        required=["type", "value"],
                                    )
                                },
                                required=["path"],
                            ),
                        },
                        "timeouts": _strict(
                            {"request": {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}},
                            required=[],
                        ),
                        "backendRefs": {
                            "type": "array",
                            "items": _strict({"name": _NAME, "port": _PORT}, required=["name", "port"]),
                        },
                    },
                    required=["backendRefs"],
                ),
            },
        },
        required=["parentRefs", "hostnames", "rules"],
    ),
    # https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _strict(
        {
            "selector": _strict({"matchLabels": {"type": "object"}}, required=["matchLabels"]),
            "endpoints": {
                "type": "array",
                "items": _strict(
                    {
                        "port": _NAME,
                        "path": {"type": "string", "pattern": "^/"},
                        "interval": {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"},
                    },
                    required=["port"],
                ),
            },
        },
        required=["selector", "endpoints"],
    ),
}


def mistakes(manifest: Manifest) -> Iterator[str]:
    """What is wrong with the object, one line a mistake."""
    custom = CUSTOM_KINDS.get((manifest["apiVersion"], manifest["kind"]))
    if custom is not None:
        for error in jsonschema.Draft202012Validator(custom).iter_errors(manifest["spec"]):
            yield f"{name(manifest)}: {error.json_path}: {error.message}"
        return
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(dict(manifest), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name(manifest)}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
