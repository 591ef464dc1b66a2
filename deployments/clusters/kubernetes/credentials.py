"""Opens the official client as the settings say: kubeconfig or service account, with a bounded pool.

Whatever is wrong with the files is told as one ClusterMisconfigured that names the file, what is wrong and
what would be right. Tokens that expire are renewed by the client itself, before a call.
"""

from __future__ import annotations

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from deployments.clusters.errors import ClusterMisconfigured
from deployments.clusters.kubernetes.kubeconfig import check_kubeconfig
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
