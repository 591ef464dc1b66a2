import socket

import pytest

from marketplace.embedded.addresses import (
    AddressRefused,
    accepts_connections,
    check_free,
    host_and_port,
    with_free_port,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("http://localhost", ("localhost", 80)),
        ("https://market.example.com", ("market.example.com", 443)),
        ("http://[::1]:8080", ("::1", 8080)),
    ],
)
def test_it_reads_host_and_port(url, expected):
    assert host_and_port(url) == expected


def test_a_taken_port_is_refused_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert accepts_connections(url)
        with pytest.raises(AddressRefused) as caught:
            check_free("WEB_URL", url, patience=0)
    message = str(caught.value)
    assert message.startswith(f"WEB_URL={url}: cannot listen on 127.0.0.1 port ")
    assert message.endswith("set WEB_URL to another port, or use `--ports auto`")


def test_an_automatic_port_is_free_and_not_one_to_avoid():
    url = with_free_port("http://127.0.0.1:8080")
    check_free("WEB_URL", url, patience=0)
    assert not accepts_connections(url)
    assert host_and_port(with_free_port(url, avoid=frozenset({host_and_port(url)[1]}))) != host_and_port(url)
