"""Says what is wrong with a kubeconfig before anything is called: which file, what, and what would be right.

Apart from `credentials`, so that a form or a check can ask without importing the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deployments.clusters.errors import ClusterMisconfigured


def check_kubeconfig(path: str, *, context: str = "") -> None:
    """Raises ClusterMisconfigured unless the file can be used with the context. Connects to nothing."""
    config = _read(path)
    contexts = _named(config, "contexts")
    known = ", ".join(sorted(contexts)) or "none"
    if context and context not in contexts:
        raise ClusterMisconfigured(
            f"kubeconfig {path} has no context {context!r}; it has: {known}", field="context"
        )
    chosen = context or config.get("current-context") or ""
    if not chosen:
        raise ClusterMisconfigured(
            f"kubeconfig {path} has no current-context; name one of its contexts: {known}", field="context"
        )
    if chosen not in contexts:
        raise ClusterMisconfigured(
            f"kubeconfig {path}: its current-context {chosen!r} is not among its contexts: {known}",
            field="context",
        )
    inner = contexts[chosen].get("context")
    name = inner.get("cluster") if isinstance(inner, dict) else None
    clusters = _named(config, "clusters")
    cluster = clusters.get(str(name), {}).get("cluster")
    if not isinstance(cluster, dict):
        listed = ", ".join(sorted(clusters)) or "none"
        raise ClusterMisconfigured(
            f"kubeconfig {path}: context {chosen!r} names cluster {name!r}; the file has: {listed}",
            field="kubeconfig",
        )
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise ClusterMisconfigured(
            f"kubeconfig {path}: cluster {name!r} has server {server!r}; write for example https://10.0.0.1:6443",
            field="kubeconfig",
        )


def kubeconfig_problem(kind: str, configuration: Mapping[str, Any]) -> str:
    """What a form says before it stores a configuration; empty if its kubeconfig, if any, can be used."""
    path = configuration.get("kubeconfig")
    if kind != "kubernetes" or not path:
        return ""
    try:
        check_kubeconfig(path, context=configuration.get("context") or "")
    except ClusterMisconfigured as error:
        return f"{error.field}: {error}"
    return ""


def _read(path: str) -> dict[str, Any]:
    file = Path(path).expanduser()
    try:
        config = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise ClusterMisconfigured(
            f"kubeconfig {path} does not exist; give the path of one that this process can read",
            field="kubeconfig",
        ) from None
    except OSError as error:
        raise ClusterMisconfigured(
            f"kubeconfig {path} cannot be read: {error.strerror}", field="kubeconfig"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        summary = " ".join(str(error).split())
        raise ClusterMisconfigured(
            f"kubeconfig {path} is not YAML: {summary}; write it with kubectl config view --flatten --minify",
            field="kubeconfig",
        ) from error
    if not isinstance(config, dict):
        raise ClusterMisconfigured(
            f"kubeconfig {path} is not a kubeconfig: it holds no clusters, users and contexts",
            field="kubeconfig",
        )
    return config


def _named(config: dict[str, Any], key: str) -> dict[str, Any]:
    items = config.get(key)
    if not isinstance(items, list):
        return {}
    return {str(item["name"]): item for item in items if isinstance(item, dict) and "name" in item}
