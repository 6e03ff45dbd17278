"""The limit of sign-in attempts: of requests for a mail or for a provider, and of wrong links, codes and keys.

Valid links, codes and keys do not count: 256 random bits cannot be guessed. So another client of the same network, or a
wrongly configured proxy, cannot lock a person out.
"""

import time

from fastapi import Request

from api.services import services_of
from api.shell.security import client_address, is_forwarded_by_untrusted, network_of
from api.shell.visits import site_of
from streams.core.errors import Unauthorized
from streams.features.sign_in.service import Browser

# Sign-in attempts a minute from one network, in this process.
MAX_ATTEMPTS_PER_MINUTE = 30


def browser_of(request: Request) -> Browser:
    """The address and the user agent of a request's browser."""
    return Browser(client_address(request, site_of(request)), request.headers.get("user-agent", ""))


def limit_attempts(request: Request) -> None:
    """Count an attempt. Raises `Unauthorized` after too many attempts from one network."""
    _log_untrusted_proxy(request)
    is_allowed, _ = request.app.state.sign_in_rates.take(network_of(browser_of(request).address), time.monotonic())
    if not is_allowed:
        raise Unauthorized("too many attempts to sign in from your network: wait a minute")


def _log_untrusted_proxy(request: Request) -> None:
    """Log once that all browsers behind a proxy share one limit, because the proxy is not trusted."""
    state = request.app.state
    if not state.is_proxy_logged and is_forwarded_by_untrusted(request, site_of(request)):
        state.is_proxy_logged = True
        services_of(request).telemetry.warning(
            "forwarded_by_untrusted_proxy", peer=request.client.host if request.client else ""
        )
