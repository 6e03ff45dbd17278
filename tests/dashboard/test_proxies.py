"""The address of a browser is what a trusted proxy says, and nothing else."""

from ipaddress import ip_network
from typing import Any

import pytest
from starlette.requests import Request

from api.shell.branding import Site
from api.shell.security import client_address

TRUSTED = Site(trusted_proxies=[ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def request(peer: str, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 1), "headers": headers}
    return Request(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
    ],
)
def test_only_a_trusted_proxy_names_the_browser(peer: str, forwarded: list[str], address: str) -> None:
    assert client_address(request(peer, *forwarded), TRUSTED) == address


def test_without_trusted_proxies_no_header_counts() -> None:
    assert client_address(request("10.0.0.1", "203.0.113.7"), Site()) == "10.0.0.1"
