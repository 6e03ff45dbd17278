"""Which addresses a webhook may reach, with the bypasses known from other products."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.webhooks.address import is_allowed, parse_networks

PUBLIC = ["1.1.1.1", "93.184.215.14", "223.255.255.254", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]

FORBIDDEN = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "link-local": ["169.254.0.1", "fe80::1", "fe80::1%eth0", "::1%lo"],
    "cloud": ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"],
    "protocols": ["192.0.0.8", "192.0.0.170", "192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.1"],
    "examples": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "5f00::1", "e000::1"],
    "retired": ["fec0::1", "3ffe::1", "::127.0.0.1", "::8.8.8.8"],
    "discard and orchid": ["100::1", "2001:10::1", "2001:20::1"],
    "local NAT64": ["64:ff9b:1::1", "64:ff9b:1::7f00:1"],
    "carried": [
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::1",
    ],
    "Teredo": ["2001:0:1:2:3:4:80ff:fffe"],  # of 127.0.0.1, whose bits are inverted
    "no address": ["", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "1.1.1.1:80", "[::1]"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize(
    "address", [pytest.param(each, id=f"{why} {each}") for why, all_ in FORBIDDEN.items() for each in all_]
)
def test_special_addresses_are_forbidden(address: str) -> None:
    assert not is_allowed(address)


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global or address.is_multicast))
def test_an_address_that_is_not_global_is_forbidden(address: IPv4Address) -> None:
    assert not is_allowed(str(address))


@given(st.ip_addresses(v=4) | st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_an_embedded_ipv4_address_decides(address: IPv4Address) -> None:
    number = int(address)
    carriers = [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
        IPv6Address((0x2001 << 112) | (number ^ 0xFFFFFFFF)),
    ]
    assert {is_allowed(str(carrier)) for carrier in carriers} == {is_allowed(str(address))}


def test_an_allowed_network_is_allowed_in_every_address_form() -> None:
    opened = parse_networks("127.0.0.0/8, ::1/128,")
    assert is_allowed("127.0.0.1", opened)
    assert is_allowed("::ffff:127.0.0.1", opened)
    assert is_allowed("::1", opened)
    assert is_allowed("::1%lo", opened)
    assert is_allowed("1.1.1.1", opened)
    assert not is_allowed("10.0.0.1", opened)
    assert not is_allowed("::2", opened)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "intranet", "10.0.0.0/8;127.0.0.0/8"])
def test_an_invalid_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition(";")[0]):
        parse_networks(text)


def test_an_empty_text_has_no_networks() -> None:
    assert parse_networks(" ") == ()
