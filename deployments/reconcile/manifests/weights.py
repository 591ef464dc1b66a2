"""How a pod comes to its weights where the site has a cache: an init container brings the versions into it,
and the main container mounts them from there. Without a cache they are mounted from the storage. Pure.

The main container sees the same version on the storage as well, below `ORIGIN_PATH`: Kubernetes starts a
container again without its init containers, and by then the cache may have lost what they brought.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.clusters.site import CACHE_CLAIM, Site
from deployments.serving.spec import Mount, Spec
from runtimes.contract import WEIGHTS_CONTAINER, CacheEnvironment

CACHE_VOLUME = "cache"
CACHE_PATH = "/cache"
SOURCE_PATH = "/source"
"""Where the init container sees the versions on the storage."""
ORIGIN_PATH = "/origin"
"""Where the main container does."""

_VERSION = re.compile(r"models/([0-9a-f]{64})")
"""The storage path of a catalog version, named by its digest."""
_FOLDERS = (("RUNTIME_MODEL_DIR", "RUNTIME_DIGESTS"), ("RUNTIME_ADAPTER_DIR", "RUNTIME_ADAPTER_DIGESTS"))
"""Variables with a folder of weights -> with its manifest (relative path -> sha256), which planning wrote
from the catalog."""


@dataclass(frozen=True, kw_only=True)
class CachedVersion:
    """A version that comes through the cache."""

    digest: str
    files: Mapping[str, str]
    """Relative path -> sha256."""
    mount: Mount
    """As the specification wants it: from the storage."""

    @property
    def origin(self) -> str:
        """Where the main container finds the version on the storage."""
        return f"{ORIGIN_PATH}{self.mount.mount_path}"


def cached_versions(spec: Spec, *, site: Site) -> tuple[CachedVersion, ...]:
    """The pod's versions: base weights and adapter. None where the site has no cache.

    What has no manifest cannot be verified, so it is read from the storage.
    """
    if site.cache is None:
        return ()
    manifests = {
        spec.environment.get(folder): json.loads(spec.environment.get(digests) or "{}")
        for folder, digests in _FOLDERS
    }
    return tuple(
        CachedVersion(digest=named.group(1), files=files, mount=mount)
        for mount in spec.mounts
        if mount.read_only
        and (named := _VERSION.fullmatch(mount.sub_path))
        and (files := manifests.get(mount.mount_path))
    )


def cache_variables(versions: tuple[CachedVersion, ...]) -> dict[str, str]:
    """What the main container is told of the cache: `ServingEnvironment.cached`."""
    if not versions:
        return {}
    origins = {version.mount.mount_path: version.origin for version in versions}
    return {"RUNTIME_CACHED": json.dumps(origins, sort_keys=True)}


def weights_mounts(mount: Mount, *, versions: tuple[CachedVersion, ...]) -> list[dict[str, Any]]:
    """Where the main container mounts what the specification wants at `mount`."""
    cached = next((version for version in versions if version.mount == mount), None)
    if cached is None:
        return [_volume_mount("storage", mount.mount_path, mount.sub_path, read_only=mount.read_only)]
    return [
        # The kubelet looks up the folder when the container starts, after the init container made it.
        _volume_mount(CACHE_VOLUME, mount.mount_path, cached.digest),
        _volume_mount("storage", cached.origin, mount.sub_path),
    ]


def cache_volumes(versions: tuple[CachedVersion, ...]) -> list[dict[str, Any]]:
    """The cache, of a pod that uses it."""
    claim = {"claimName": CACHE_CLAIM}
    return [{"name": CACHE_VOLUME, "persistentVolumeClaim": claim}] if versions else []


def weights_containers(
    main: Mapping[str, Any],
    *,
    versions: tuple[CachedVersion, ...],
    variables: Mapping[str, str],
    free_share: float,
) -> list[dict[str, Any]]:
    """The init container beside the main one: of the same image, which every node has to pull anyway.

    `variables` are set on every container.
    """
    if not versions:
        return []
    environment = CacheEnvironment(
        cache_dir=CACHE_PATH,
        source_dir=SOURCE_PATH,
        versions={version.digest: version.files for version in versions},
        free_share=free_share,
    ).to_environment()
    amounts = {name: main["resources"]["limits"][name] for name in ("cpu", "memory")}
    sources = {
        version.digest: _volume_mount("storage", f"{SOURCE_PATH}/{version.digest}", version.mount.sub_path)
        for version in versions
    }
    scratch = [mount for mount in main["volumeMounts"] if mount["name"] == "scratch"]
    return [
        {
            "name": WEIGHTS_CONTAINER,
            "image": main["image"],
            "command": ["python", "-m", "runtimes.cache"],
            "env": [
                {"name": name, "value": value} for name, value in sorted({**variables, **environment}.items())
            ],
            # It ends before the main container begins, so a pod with both asks for no more. What it copied
            # stays in the page cache up to its limit, and the main container need not read it from the disk.
            "resources": {"requests": amounts, "limits": amounts},
            "volumeMounts": [
                {"name": CACHE_VOLUME, "mountPath": CACHE_PATH},
                *(sources[digest] for digest in sorted(sources)),
                *scratch,
            ],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "terminationMessagePolicy": main["terminationMessagePolicy"],
        }
    ]


def _volume_mount(volume: str, path: str, sub_path: str, *, read_only: bool = True) -> dict[str, Any]:
    return {"name": volume, "mountPath": path, "subPath": sub_path, "readOnly": read_only}
