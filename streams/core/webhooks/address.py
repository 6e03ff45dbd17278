"""Network addresses that a webhook may reach: public unicast ones, and the networks that the operator allowed."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A separate table, after the IANA special-purpose registries: `ipaddress.is_global` calls several of these global.
_FORBIDDEN_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Only 2000::/3 is global unicast; within it these are not.
_GLOBAL_V6 = IPv6Network("2000::/3")
_FORBIDDEN_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20")
)
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse networks such as `127.0.0.0/8,::1/128`. Raises ValueError, which names the part that is not a network."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def format_network(network: Network) -> str:
    """The text of a network, or of its address if it has only one."""
    return str(network.network_address if network.num_addresses == 1 else network)


def literal_address(host: str) -> str | None:
    """The address in a host, or of this machine's own names (RFC 6761 §6.3). None for a name to resolve."""
    if host.rstrip(".").lower().rpartition(".")[2] == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def is_allowed(text: str, allowed_networks: Sequence[Network] = ()) -> bool:
    """Whether a connection to this address may be opened. The address has the form of a socket's, with a zone."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    embedded_address = _embedded_address(address)
    if any(_is_within(candidate, network) for candidate in (address, embedded_address) for network in allowed_networks):
        return True
    if isinstance(embedded_address, IPv4Address):
        # An IPv6 address that contains an IPv4 address leads to that address.
        return not any(embedded_address in network for network in _FORBIDDEN_V4)
    return embedded_address in _GLOBAL_V6 and not any(embedded_address in network for network in _FORBIDDEN_V6)


def _is_within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _embedded_address(address: Address) -> Address:
    """The IPv4 address within an IPv6 address (v4-mapped, NAT64, 6to4, Teredo), otherwise the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if address in _TEREDO:
        return IPv4Address(~int(address) & 0xFFFFFFFF)
    return address
