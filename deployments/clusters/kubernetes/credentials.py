"""Opens the official client as the settings say: kubeconfig or service account, with a bounded pool.

Whatever is wrong with the files is told as one ClusterMisconfigured that names the file, what is wrong and
what would be right. Tokens that expire are renewed by the client itself, before a call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from deployments.clusters.errors import ClusterMisconfigured
from deployments.clusters.kubernetes.settings import Settings


def open_client(settings: Settings, *, connections: int) -> ApiClient:
    """A client that keeps at most so many connections; one more call waits for one to be free.

    Connects to nothing yet. Raises ClusterMisconfigured.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = connections
    # Whoever called decides whether to try again, and when.
    configuration.retries = False
    # A peer that vanished without a word is noticed on a watch too.
    configuration.keep_alive = True
    if settings.kubeconfig:
        _load_kubeconfig(configuration, settings)
    else:
        _load_service_account(configuration)
    client = ApiClient(configuration)
    client.user_agent = "marketplace"
    client.rest_client.pool_manager.connection_pool_kw["block"] = True
    return client


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


def _load_kubeconfig(configuration: Configuration, settings: Settings) -> None:
    path = settings.kubeconfig
    check_kubeconfig(path, context=settings.context)
    try:
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=path,
            context=settings.context or None,
            client_configuration=configuration,
            persist_config=False,
        )
    # The client walks the file as it comes and trips over whatever is missing in it.
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ClusterMisconfigured(
            f"kubeconfig {path} cannot be used: {error}", field="kubeconfig"
        ) from error


def _load_service_account(configuration: Configuration) -> None:
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise ClusterMisconfigured(
            f"there is no service account here ({error}): outside of a cluster, give a kubeconfig",
            field="kubeconfig",
        ) from error


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
