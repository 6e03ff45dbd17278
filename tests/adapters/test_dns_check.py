"""The check of a host name at registration helps people. It is not the protection itself."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from streams.adapters import dns_check
from streams.adapters.dns_check import SystemDnsCheck, look_up_literal
from streams.ports.delivery import DnsResult


def leading_to(*found: str) -> SystemDnsCheck:
    async def lookup(host: str) -> Sequence[str]:
        return found

    return SystemDnsCheck((), lookup)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:10.0.0.7"])
async def test_a_name_that_leads_inside_is_refused_with_the_address(address: str) -> None:
    problem = (await leading_to("93.184.216.34", address).check("https://crm.example.com/hooks", "acc_a")).problem
    assert problem is not None
    assert address not in problem  # the message reveals no internal address
    assert "SCORM_WEBHOOKS_ALLOWED_NETWORKS" in problem


async def test_a_public_address_and_an_opened_network_are_let_pass() -> None:
    assert await leading_to("93.184.216.34").check("https://crm.example.com/hooks", "acc_a") == DnsResult()

    async def lookup(host: str) -> Sequence[str]:
        return ["10.0.0.7"]

    check = SystemDnsCheck((ip_network("10.0.0.0/8"),), lookup)
    assert await check.check("https://crm.example.com", "acc_a") == DnsResult()


async def test_an_address_in_the_url_is_looked_at_by_the_system() -> None:
    assert (await SystemDnsCheck(()).check("https://127.0.0.1/hooks", "acc_a")).problem
    assert (await SystemDnsCheck(()).check("https://[::1]/hooks", "acc_a")).problem


async def test_without_look_ups_addresses_in_urls_are_checked() -> None:
    check = SystemDnsCheck((), look_up_literal)
    for host in ("127.0.0.1", "[::1]", "localhost", "x.localhost"):
        assert (await check.check(f"https://{host}/hooks", "acc_a")).problem, host
    for host in ("93.184.215.14", "no-such-name.example.com"):
        assert await check.check(f"https://{host}/hooks", "acc_a") == DnsResult(), host


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_a_warning(error: Exception) -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise error

    assert await SystemDnsCheck((), lookup).check("https://soon.example.com/hooks", "acc_a") == DnsResult(
        resolves=False
    )


async def test_a_silent_resolver_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_check, "TIMEOUT_SECONDS", 0.01)

    async def lookup(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    assert await SystemDnsCheck((), lookup).check("https://slow.example.com/hooks", "acc_a") == DnsResult(
        resolves=False
    )
