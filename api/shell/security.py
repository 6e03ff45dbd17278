"""Cookies, headers and origins: only our own pages can act for a signed-in person."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from api.shell.branding import Site
from streams.core.accounts.session import SESSION_LIFETIME
from streams.core.errors import Forbidden

_CSP_DIRECTIVES = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
)
# The token of the browser that asked for a code.
CODE_COOKIE = "asked"
# The token of the browser that went to the OpenID Connect provider.
OIDC_COOKIE = "oidc"


def is_secure(request: Request, site: Site) -> bool:
    """Whether people reach the dashboard by https."""
    return (site.origin or str(request.base_url)).startswith("https:")


def cookie_name(request: Request, site: Site, name: str = "session") -> str:
    """The name of a cookie. Browsers accept `__Host-` only by https, and for this host alone."""
    return f"__Host-{name}" if is_secure(request, site) else name


def set_cookie(
    response: Response,
    request: Request,
    site: Site,
    value: str,
    name: str = "session",
    lifetime: timedelta = SESSION_LIFETIME,
) -> None:
    """Set a cookie that scripts cannot read, and that other sites do not send with a POST."""
    is_https, is_framed = is_secure(request, site), _is_framed(request, site, name)
    response.set_cookie(
        cookie_name(request, site, name),
        value,
        max_age=int(lifetime.total_seconds()),
        secure=is_https,
        httponly=True,
        samesite="none" if is_framed else "lax",
        partitioned=is_framed,
    )


def delete_cookie(response: Response, request: Request, site: Site, name: str = "session") -> None:
    is_https, is_framed = is_secure(request, site), _is_framed(request, site, name)
    response.delete_cookie(
        cookie_name(request, site, name), secure=is_https, httponly=True, samesite="none" if is_framed else "lax"
    )


def _is_framed(request: Request, site: Site, name: str) -> bool:
    """Whether a cookie works in a frame on another site, which gets no `Lax` cookie. Providers refuse frames."""
    return site.is_framed and is_secure(request, site) and name != OIDC_COOKIE


def require_same_origin(request: Request, site: Site) -> None:
    """Refuse a request that changes something unless it comes from a page of the dashboard. Raises `Forbidden`.

    Browsers state where a request comes from: by `Sec-Fetch-Site`, or on plain http by `Origin`.
    """
    fetched_from = request.headers.get("sec-fetch-site")
    if fetched_from is not None:
        is_allowed = fetched_from == "same-origin"
    else:
        own_origin = site.origin or f"{request.url.scheme}://{request.url.netloc}".lower()
        is_allowed = request.headers.get("origin", "").lower() == own_origin
    if not is_allowed:
        raise Forbidden("this request did not come from a page of the dashboard: open the page and try again")


def client_address(request: Request, site: Site) -> str:
    """The network address of the browser. Only addresses that a trusted proxy adds to `X-Forwarded-For` count."""
    peer = request.client.host if request.client else ""
    addresses = [part.strip() for part in ",".join(request.headers.getlist("x-forwarded-for")).split(",")]
    # Read from the right, because a client may send anything on the left.
    while addresses and _is_trusted(peer, site):
        if _address(addresses[-1]) is None:
            break
        peer = addresses.pop()
    return peer


def network_of(address: str) -> str:
    """The network that shares a limit: a home has an IPv4 address, or an IPv6 network of 64 bits.

    An invalid address counts as itself.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((ip, 64), strict=False)) if ip.version == 6 else address


def is_forwarded_by_untrusted(request: Request, site: Site) -> bool:
    """Whether the peer names the browser that it speaks for, but is not a trusted proxy."""
    return "x-forwarded-for" in request.headers and not _is_trusted(request.client.host if request.client else "", site)


def _is_trusted(text: str, site: Site) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in site.trusted_proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def add_security_headers(response: Response, site: Site) -> None:
    """The headers of every page."""
    ancestors = " ".join(site.branding.frame_ancestors) or "'none'"
    response.headers["Content-Security-Policy"] = "; ".join((*_CSP_DIRECTIVES, f"frame-ancestors {ancestors}"))
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Vary"] = "Cookie, Accept-Encoding"


def to_own_path(text: str | None) -> str:
    """A path of our own to go to after the sign-in; `/` for anything else, so that no link leads elsewhere."""
    if not text or not text.startswith("/") or "\\" in text or any(ord(character) < 33 for character in text):
        return "/"
    parts = urlsplit(text)
    return "/" if parts.scheme or parts.netloc or text.startswith("//") else text
