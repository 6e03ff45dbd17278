"""The check of a host name at registration helps people. It is not the protection itself."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from streams.adapters import dns_check
from streams.adapters.dns_check import SystemDnsCheck


def leading_to(*found: str) -> SystemDnsCheck:
    async def lookup(host: str) -> Sequence[str]:
        return found

    return SystemDnsCheck((), lookup)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:10.0.0.7"])
async def test_a_name_that_leads_inside_is_refused_with_the_address(address: str) -> None:
    problem = await leading_to("93.184.216.34", address).problem("https://crm.example.com/hooks")
    assert problem is not None
    assert address not in problem  # the message reveals no internal address
    assert "SCORM_WEBHOOKS_ALLOWED_NETWORKS" in problem


async def test_a_public_address_and_an_opened_network_are_let_pass() -> None:
    assert await leading_to("93.184.216.34").problem("https://crm.example.com/hooks") is None

    async def lookup(host: str) -> Sequence[str]:
        return ["10.0.0.7"]

    assert await SystemDnsCheck((ip_network("10.0.0.0/8"),), lookup).problem("https://crm.example.com") is None


async def test_an_address_in_the_url_is_looked_at_by_the_system() -> None:
    assert await SystemDnsCheck(()).problem("https://127.0.0.1/hooks") is not None
    assert await SystemDnsCheck(()).problem("https://[::1]/hooks") is not None


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_leads_nowhere_yet_is_let_pass(error: Exception) -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise error

    assert await SystemDnsCheck((), lookup).problem("https://soon.example.com/hooks") is None


async def test_a_silent_resolver_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_check, "TIMEOUT_SECONDS", 0.01)

    async def lookup(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    assert await SystemDnsCheck((), lookup).problem("https://slow.example.com/hooks") is None
