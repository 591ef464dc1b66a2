"""The Pod Security levels `baseline` and `restricted`, as far as pods that run models can break them. Pure.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    | {"image"}
)


def violations(level: str, spec: Mapping[str, Any]) -> list[str]:
    """What a pod does that the level forbids; empty when it may run."""
    if level not in ("baseline", "restricted"):
        return []
    found = list(_baseline(spec))
    return found + list(_restricted(spec)) if level == "restricted" else found


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for part in ("initContainers", "containers"):
        for container in spec.get(part) or ():
            yield container["name"], container.get("securityContext") or {}


def _baseline(spec: Mapping[str, Any]) -> Iterator[str]:
    shared = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if shared:
        yield f"host namespaces ({', '.join(shared)})"
    names = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    if names:
        yield f"hostPath volumes ({_volumes(names)})"
    names = [name for name, context in _containers(spec) if context.get("privileged")]
    if names:
        yield f"privileged ({_who(names)} must not set securityContext.privileged=true)"


def _restricted(spec: Mapping[str, Any]) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    names = [
        name for name, context in _containers(spec) if context.get("allowPrivilegeEscalation") is not False
    ]
    if names:
        rule = "securityContext.allowPrivilegeEscalation=false"
        yield f"allowPrivilegeEscalation != false ({_who(names)} must set {rule})"
    names = [
        name
        for name, context in _containers(spec)
        if "ALL" not in ((context.get("capabilities") or {}).get("drop") or ())
    ]
    if names:
        rule = 'securityContext.capabilities.drop=["ALL"]'
        yield f"unrestricted capabilities ({_who(names)} must set {rule})"
    names = [
        volume["name"] for volume in spec.get("volumes") or () if not (set(volume) - {"name"}) <= _VOLUMES
    ]
    if names:
        yield f"restricted volume types ({_volumes(names)} uses restricted volume type)"
    if not pod.get("runAsNonRoot"):
        names = [name for name, context in _containers(spec) if not context.get("runAsNonRoot")]
        if names:
            yield f"runAsNonRoot != true (pod or {_who(names)} must set securityContext.runAsNonRoot=true)"
    if pod.get("runAsUser") == 0:
        yield "runAsUser=0 (pod must not set runAsUser=0)"
    allowed = ("RuntimeDefault", "Localhost")
    if (pod.get("seccompProfile") or {}).get("type") not in allowed:
        names = [
            name
            for name, context in _containers(spec)
            if (context.get("seccompProfile") or {}).get("type") not in allowed
        ]
        if names:
            rule = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
            yield f"seccompProfile (pod or {_who(names)} must set {rule})"


def _who(names: list[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"container {quoted}" if len(names) == 1 else f"containers {quoted}"


def _volumes(names: list[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"volume {quoted}" if len(names) == 1 else f"volumes {quoted}"
