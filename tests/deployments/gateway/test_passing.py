"""Which headers pass between a browser and a workspace."""

from __future__ import annotations

import pytest

from deployments.gateway.passing import headers_for_browser, headers_for_workspace

ID = "wsp_01jz000000000000000000000a"
OWN = f"workspace-{ID}"


def passed(*headers: tuple[bytes, bytes], scheme: str = "http") -> dict[str, str]:
    return dict(headers_for_workspace(headers, workspace=ID, scheme=scheme, caller="192.0.2.7"))


def test_host_and_origin_pass_as_they_are_because_the_server_compares_them():
    found = passed((b"host", b"models.example"), (b"origin", b"https://models.example"))

    assert found == {
        "host": "models.example",
        "origin": "https://models.example",
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
    }


@pytest.mark.parametrize(
    "header",
    [
        (b"connection", b"upgrade"),
        (b"upgrade", b"websocket"),
        (b"transfer-encoding", b"chunked"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"authorization", b"Bearer mk_secret"),
        (b"cookie", b"sessionid=portal; csrftoken=portal"),
    ],
    ids=lambda header: str(header[0], "ascii"),
)
def test_a_workspace_does_not_get_what_is_not_for_it(header: tuple[bytes, bytes]):
    assert passed(header) == {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http"}


def test_what_connection_names_stays_behind():
    assert "x-hop" not in passed((b"connection", b"keep-alive, X-Hop"), (b"x-hop", b"1"))


def test_of_all_cookies_a_workspace_gets_its_own():
    cookies = f"sessionid=portal; {OWN}=mine; workspace-wsp_other=theirs; _xsrf=2|a".encode()

    assert passed((b"cookie", cookies))["cookie"] == f"{OWN}=mine; _xsrf=2|a"


def test_its_own_token_passes():
    assert passed((b"authorization", b"token abc"))["authorization"] == "token abc"


def test_the_scheme_that_an_ingress_tells_is_believed():
    assert passed((b"x-forwarded-proto", b"https"))["x-forwarded-proto"] == "https"


def test_a_workspace_sets_its_own_cookies_and_no_others():
    answer = [
        (b"Content-Type", b"text/html"),
        (b"Set-Cookie", f"{OWN}=secret; Path=/workspaces/{ID}/".encode()),
        (b"Set-Cookie", b"sessionid=stolen; Path=/"),
        (b"Connection", b"close"),
        (b"Server", b"TornadoServer/6"),
    ]

    assert headers_for_browser(answer, workspace=ID) == [
        (b"content-type", b"text/html"),
        (b"set-cookie", f"{OWN}=secret; Path=/workspaces/{ID}/".encode()),
    ]


def test_a_workspace_says_nothing_that_holds_for_its_neighbors():
    answer = [
        (b"Content-Type", b"text/javascript"),
        (b"Service-Worker-Allowed", b"/"),
        (b"Clear-Site-Data", b'"*"'),
        (b"Strict-Transport-Security", b"max-age=31536000; includeSubDomains"),
        (b"Alt-Svc", b'h2="elsewhere.example:443"'),
    ]

    assert headers_for_browser(answer, workspace=ID) == [(b"content-type", b"text/javascript")]
