"""Turns a pod's container into the process to run: command, environment, folders. Creates the folders.

A process has no mount namespace, so a mount path is replaced by the real folder wherever it begins a value
in the command, the arguments or the environment (`/models/x`, `--dir=/models/x`, `a:/models/x`).
"""

from __future__ import annotations

import base64
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.clusters.images import find_image
from deployments.clusters.local.pods import Pod
from deployments.clusters.quantities import parse
from deployments.clusters.site import STORAGE_CLAIM

MARKER = "LOCAL_CLUSTER_CONTAINER"
"""Environment variable that says which run of which container a process belongs to."""
_REFERENCE = re.compile(r"\$(\$|\((?P<name>[-._a-zA-Z][-._a-zA-Z0-9]*)\))")

ReadData = Callable[[str, str, str], Mapping[str, Any] | None]
"""(kind, namespace, name) -> the Secret, ConfigMap or PersistentVolumeClaim, None when there is none."""


class ConfigurationError(Exception):
    """The container cannot be made as its pod describes it (Kubernetes: CreateContainerConfigError)."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are on this machine."""

    storage: Path
    """What the claim `marketplace-storage` stands for."""
    checkout: Path
    """Working directory of containers, so that `python -m runtimes.server` finds the code."""
    images: Path | None = None
    """JSON file with further images."""


def build_instruction(
    pod: Pod,
    *,
    number: int,
    places: Places,
    volumes: Path,
    claim: Callable[[str], Path],
    log: Path,
    read_data: ReadData,
) -> dict[str, Any]:
    """What the shim is told. Raises UnknownImage or ConfigurationError.

    `claim`: uid of a PersistentVolumeClaim -> its folder.
    """
    container = pod.container
    image = find_image(container["image"], more=places.images)
    mounts = _mounts(pod, places=places, volumes=volumes, claim=claim, read_data=read_data)
    environment = dict(image.environment)
    environment.update(_own_environment(pod, volumes=volumes, checkout=places.checkout))
    for variable, value in _declared_environment(pod, read_data=read_data):
        environment[variable] = rewrite_mounts(expand(value, environment), mounts)
    environment[MARKER] = f"{pod.uid}/{number}"
    # What the image says are real paths, whatever is mounted over them.
    entry_point = [rewrite_mounts(word, mounts) for word in container.get("command") or ()] or image.command
    arguments = [rewrite_mounts(word, mounts) for word in container.get("args") or ()]
    command = [expand(word, environment) for word in (*entry_point, *arguments)]
    for folder in (volumes / "home", volumes / "tmp", log.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = rewrite_mounts(container.get("workingDir") or "", mounts) or str(places.checkout)
    return {
        "command": command,
        "environment": environment,
        "directory": directory,
        "log": str(log),
        "grace_seconds": pod.grace_seconds,
    }


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replaces $(NAME) as Kubernetes does: unknown names stay, $$ is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        return "$" if name is None else environment.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def rewrite_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Replaces mount paths by real folders, the longest first, where they begin a path."""
    if not mounts:
        return text
    paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({paths})(?![\w.-])", lambda match: mounts[match[1]], text)


def _own_environment(pod: Pod, *, volumes: Path, checkout: Path) -> dict[str, str]:
    """Everything that a container gets without asking. Nothing of the control plane's environment."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(volumes / "home"),
        "TMPDIR": str(volumes / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(checkout),
        "HOSTNAME": pod.name,
    }
    resources = pod.container.get("resources") or {}
    cpu = (resources.get("limits") or {}).get("cpu") or (resources.get("requests") or {}).get("cpu")
    if cpu:
        environment["OMP_NUM_THREADS"] = str(max(1, math.ceil(parse(cpu))))
    return environment


def _declared_environment(pod: Pod, *, read_data: ReadData) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for source in pod.container.get("envFrom") or ():
        reference = source.get("secretRef") or source.get("configMapRef") or {}
        data = _data(pod, reference, secret="secretRef" in source, read_data=read_data)
        found += [(source.get("prefix", "") + key, value.decode()) for key, value in data.items()]
    for variable in pod.container.get("env") or ():
        value = _value(pod, variable, read_data=read_data)
        if value is not None:
            found.append((variable["name"], value))
    return found


def _value(pod: Pod, variable: Mapping[str, Any], *, read_data: ReadData) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value") or "")
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    secret = "secretKeyRef" in source
    reference = source["secretKeyRef"] if secret else source["configMapKeyRef"]
    data = _data(pod, reference, secret=secret, read_data=read_data)
    if reference["key"] in data:
        return data[reference["key"]].decode()
    if reference.get("optional"):
        return None
    kind = "Secret" if secret else "ConfigMap"
    raise ConfigurationError(
        f"couldn't find key {reference['key']} in {kind} {pod.namespace}/{reference['name']}"
    )


def _field(pod: Pod, path: str) -> str:
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "status.podIP": pod.ip,
        "status.hostIP": "127.0.0.1",
        "spec.nodeName": "local",
    }
    if path in fields:
        return fields[path]
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        values = pod.labels if match[1] == "labels" else pod.annotations
        return values.get(match[2], "")
    raise ConfigurationError(f"fieldPath {path} is not supported; use one of {', '.join(fields)}")


def _data(pod: Pod, reference: Mapping[str, Any], *, secret: bool, read_data: ReadData) -> dict[str, bytes]:
    kind = "Secret" if secret else "ConfigMap"
    record = read_data(kind, pod.namespace, reference["name"])
    if record is None:
        if reference.get("optional"):
            return {}
        raise ConfigurationError(f'{kind.lower()} "{reference["name"]}" not found')
    if not secret:
        return {key: value.encode() for key, value in (record.get("data") or {}).items()}
    data = {key: base64.b64decode(value) for key, value in (record.get("data") or {}).items()}
    return data | {key: value.encode() for key, value in (record.get("stringData") or {}).items()}


def _mounts(
    pod: Pod, *, places: Places, volumes: Path, claim: Callable[[str], Path], read_data: ReadData
) -> dict[str, str]:
    """Mount path -> real path, made if it is missing."""
    declared = {volume["name"]: volume for volume in pod.spec.get("volumes") or ()}
    mounts = {}
    for mount in pod.container.get("volumeMounts") or ():
        volume = declared[mount["name"]]
        if volume.get("persistentVolumeClaim"):
            folder = _claimed(pod, volume, places=places, claim=claim, read_data=read_data)
        else:
            folder = _volume(pod, volume, volumes=volumes, read_data=read_data)
        if mount.get("subPath"):
            folder /= expand(mount["subPath"], {})
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        mounts[mount["mountPath"].rstrip("/") or "/"] = str(folder)
    return mounts


def _claimed(
    pod: Pod,
    volume: Mapping[str, Any],
    *,
    places: Places,
    claim: Callable[[str], Path],
    read_data: ReadData,
) -> Path:
    """The storage that all share, or the folder of a claim of the pod's namespace."""
    name = volume["persistentVolumeClaim"]["claimName"]
    if name == STORAGE_CLAIM:
        return places.storage
    record = read_data("PersistentVolumeClaim", pod.namespace, name)
    if record is None:
        raise ConfigurationError(f'persistentvolumeclaim "{name}" not found')
    folder = claim(record["metadata"]["uid"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _volume(pod: Pod, volume: Mapping[str, Any], *, volumes: Path, read_data: ReadData) -> Path:
    if volume.get("hostPath"):
        return Path(volume["hostPath"]["path"])
    folder = volumes / "mounts" / str(volume["name"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in ("secret", "configMap"):
        source = volume.get(kind)
        if source is not None:
            reference = {"name": source.get("secretName") or source.get("name"), **source}
            for key, content in _data(pod, reference, secret=kind == "secret", read_data=read_data).items():
                with open(folder / key, "wb", opener=_private) as file:
                    file.write(content)
    return folder


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
