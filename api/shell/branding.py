"""The parts of the dashboard that a platform can change: its name, logo, colour, and where it may be framed."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

Networks = Sequence[IPv4Network | IPv6Network]


@dataclass(frozen=True, slots=True)
class Branding:
    """`logo` is an image as a data URL, `accent_color` is `#rrggbb`, `frame_ancestors` are origins."""

    name: str = "Webhooks"
    logo: str | None = None
    accent_color: str = "#1f5fbf"
    frame_ancestors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """The dashboard's address, its looks, and the facts about the deployment that it shows.

    Without an `origin`, the origin of each request is used.
    """

    branding: Branding = Branding()
    origin: str | None = None
    signature_header: str = "X-AllureConnect-Signature"
    retention_days: int = 30
    trusted_proxies: Networks = ()
    attempt_seconds: float = 10
    retry_waits: Sequence[str] = ("30s", "2m", "10m", "1h", "6h")
    allows_http: bool = False
    sends_mail: bool = True
    proxy_resolves: bool = False

    @property
    def is_framed(self) -> bool:
        return bool(self.branding.frame_ancestors)


def origin_of(url: str) -> str:
    """The origin of a URL: scheme, host and port (RFC 6454 §4)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
