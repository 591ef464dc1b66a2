"""Which headers pass between a browser and a workspace. Pure.

A workspace runs its customer's code on the gateway's address. So it gets no cookie but its own two and no
API key, and it can set no other cookie: with portal and gateway on one host name, a browser sends the
portal's session to both. Nor may it say anything that holds for the whole address, which others share. Host
and Origin pass as they are, because the notebook server compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Headers = Sequence[tuple[bytes, bytes]]

# RFC 9110, 7.6.1.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection")
    + (b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
# The client makes its own, and each end of a WebSocket its own handshake.
_REPLACED = frozenset((b"x-forwarded-for", b"x-real-ip", b"x-scheme", b"forwarded", b"expect"))
_HANDSHAKE = b"sec-websocket-"
_WRITTEN_BY_SERVER = frozenset((b"date", b"server"))
# A browser takes these for all that is at the address: a service worker would see everybody's requests there.
_OF_THE_ADDRESS = frozenset(
    (b"service-worker-allowed", b"clear-site-data", b"strict-transport-security", b"alt-svc")
)
_API_KEY = b"bearer mk_"


def headers_for_workspace(
    headers: Headers, *, workspace: str, scheme: str, caller: str
) -> list[tuple[str, str]]:
    """What a workspace gets of a request. `scheme` is http or https; `caller` the caller's IP address."""
    kept = []
    named = _named(headers)
    forwarded_scheme = scheme
    for name, value in headers:
        if name in _HOP_BY_HOP | _REPLACED | named or name.startswith(_HANDSHAKE):
            continue
        if name == b"authorization" and value.lower().startswith(_API_KEY):
            continue
        if name == b"x-forwarded-proto":
            forwarded_scheme = value.decode("latin-1")
            continue
        if name == b"cookie":
            value = _own_cookies(value, workspace=workspace)
            if not value:
                continue
        kept.append((name.decode("latin-1"), value.decode("latin-1")))
    return [*kept, ("x-forwarded-for", caller), ("x-forwarded-proto", forwarded_scheme)]


def headers_for_browser(headers: Headers, *, workspace: str) -> list[tuple[bytes, bytes]]:
    """What a browser gets of an answer of a workspace."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _WRITTEN_BY_SERVER | _OF_THE_ADDRESS | _named(lowered)
    return [
        (name, value)
        for name, value in lowered
        if name not in dropped
        and not (name == b"set-cookie" and _name_of(value) not in cookies_of(workspace))
    ]


def cookies_of(workspace: str) -> frozenset[bytes]:
    """Names of the cookies of a workspace: its login, and Jupyter's against forged requests."""
    return frozenset((f"workspace-{workspace}".encode(), b"_xsrf"))


def wants_html(headers: Mapping[str, str]) -> bool:
    """Whether it is a person who asks."""
    return "text/html" in headers.get("accept", "")


def _own_cookies(value: bytes, *, workspace: str) -> bytes:
    own = cookies_of(workspace)
    return b"; ".join(part for part in map(bytes.strip, value.split(b";")) if _name_of(part) in own)


def _name_of(cookie: bytes) -> bytes:
    return cookie.partition(b"=")[0].strip()


def _named(headers: Headers) -> frozenset[bytes]:
    """Headers that `Connection` says are about this connection only."""
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    )
