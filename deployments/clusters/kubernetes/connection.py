"""One call to an API server: a bounded time, a bounded pool, and no error of the client's passes.

Nothing is tried again here: whoever called knows whether it still matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException

from deployments.clusters.errors import ClusterMisconfigured, ClusterUnreachable
from deployments.clusters.kubernetes.failures import error_of

CONNECT_SECONDS = 5
READ_SECONDS = 30
"""Between two pieces of an answer."""
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"

Query = Sequence[tuple[str, Any]]


class NotFound(Exception):
    """The API server has no such object, or no such kind of object. Never leaves this package."""


class Gone(Exception):
    """The resource version or the list that was asked for is too old. Never leaves this package."""


class Connection:
    """Calls to one API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.host: str = client.configuration.host

    def get(self, path: str, *, query: Query = (), accept: str = JSON, action: str) -> dict[str, Any]:
        """The answer as JSON. Raises NotFound, Gone and ClusterError."""
        return self._json(self._call("GET", path, query=query, accept=accept, action=action), action=action)

    def patch(self, path: str, body: Any, *, query: Query, content_type: str, action: str) -> dict[str, Any]:
        """The object as it is afterwards. Raises NotFound, Gone and ClusterError."""
        # Not escaped: the API server reads what is applied as YAML, which knows no surrogate pairs.
        data = json.dumps(body, ensure_ascii=False).encode() if content_type == APPLY else body
        answer = self._call("PATCH", path, query=query, body=data, content_type=content_type, action=action)
        return self._json(answer, action=action)

    def delete(self, path: str, options: Mapping[str, Any], *, action: str) -> None:
        """Raises NotFound, Gone and ClusterError."""
        self._call("DELETE", path, body=dict(options), content_type=JSON, action=action).read()

    def stream(
        self, path: str, *, query: Query, accept: str = JSON, silence_seconds: float, action: str
    ) -> urllib3.BaseHTTPResponse:
        """The open answer, to be read as it comes and closed. Raises NotFound, Gone and ClusterError."""
        response: urllib3.BaseHTTPResponse = self._call(
            "GET", path, query=query, accept=accept, action=action, silence_seconds=silence_seconds
        ).response
        return response

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Any = None,
        accept: str = JSON,
        content_type: str = "",
        action: str,
        silence_seconds: float = READ_SECONDS,
    ) -> Any:
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content_type else {})
        with translated(action):
            arguments = self._client.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*arguments, _request_timeout=(CONNECT_SECONDS, silence_seconds))
            if answer.status < 300:
                return answer
            content: bytes = answer.read()  # type: ignore[no-untyped-call]
        if answer.status == 410:
            raise Gone(action)
        if answer.status == 404 and b'"namespaces"' not in content:
            raise NotFound(action)
        raise error_of(answer.status, content, action=action, retry_after=answer.headers.get("Retry-After"))

    def _json(self, answer: Any, *, action: str) -> dict[str, Any]:
        with translated(action):
            content: bytes = answer.read()
        try:
            found = json.loads(content)
        except ValueError as error:
            raise ClusterUnreachable(f"{action}: {self.host} does not answer with JSON: {error}") from error
        if not isinstance(found, dict):
            raise ClusterUnreachable(f"{action}: {self.host} does not answer as an API server")
        return found


@contextmanager
def translated(action: str) -> Iterator[None]:
    """No error of the network passes this border."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise ClusterUnreachable(f"{action}: no answer: {error}") from error
    except ApiException as error:
        raise ClusterUnreachable(f"{action}: no answer: {error.reason}") from error
    except ConfigException as error:
        raise ClusterMisconfigured(f"{action}: our credentials cannot be read: {error}") from error
    except OSError as error:
        raise ClusterUnreachable(f"{action}: no answer: {error}") from error
