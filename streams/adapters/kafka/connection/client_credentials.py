"""Fetch a token by OAuth 2.0 client credentials (RFC 6749 §4.4), as librdkafka's `oidc` method does."""

import asyncio
import json
import math
import os
import ssl
import time
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.adapters.kafka.connection.tokens import Token
from streams.core.errors import ProviderFailed, TokenUnavailable
from streams.core.text import escape_controls

ENDPOINT_NAME = "the token endpoint"
MAX_ERROR_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A client of a token endpoint. `fetch` may run on any thread."""

    endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None
    tls: ssl.SSLContext

    def fetch(self) -> Token:
        """Fetch a token. Raises `TokenUnavailable`."""
        try:
            return asyncio.run(self._fetch())
        except ProviderFailed as error:
            raise TokenUnavailable(str(error)) from None

    async def _fetch(self) -> Token:
        # Imported here, because without OAuth no process needs it.
        import httpx2

        from streams.adapters.oidc.limited_transport import LimitedTransport, provider_call

        transport = LimitedTransport(httpx2.AsyncHTTPTransport(verify=self.tls, trust_env=False))
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        # librdkafka does not encode the id and the secret either, so what works there works here.
        basic = b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}
        async with (
            provider_call(f"{ENDPOINT_NAME} {_host(self.endpoint)}"),
            httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None) as client,
        ):
            response = await client.post(self.endpoint, data=form, headers=headers)
        return parse_response(response.status_code, response.content)


def parse_response(status: int, body: bytes) -> Token:
    """The token of a response. Raises `TokenUnavailable`, which shows no text of the response but its error code."""
    try:
        response_fields = json.loads(body)
    except (ValueError, RecursionError):
        response_fields = None
    if status in (400, 401) and isinstance(response_fields, Mapping) and isinstance(response_fields.get("error"), str):
        code = escape_controls(response_fields["error"][:MAX_ERROR_CHARACTERS])
        raise TokenUnavailable(f"{ENDPOINT_NAME} refuses this client: {code}")
    if status != 200:
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers with status {status}")
    if not isinstance(response_fields, Mapping):
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers with something else than a JSON object")
    value = response_fields.get("access_token")
    if not isinstance(value, str) or not value:
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers without an access_token")
    seconds = _parse_number(response_fields.get("expires_in"))
    return Token(value, seconds if seconds is not None else _expiry_of(value) - time.time())


def _expiry_of(token: str) -> float:
    """The `exp` of a JWT, whose signature is the broker's to check. Raises `TokenUnavailable`."""
    try:
        claims: Any = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        end = _parse_number(claims["exp"])
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        end = None
    if end is None:
        raise TokenUnavailable(
            f"{ENDPOINT_NAME} does not say how long the token is valid: it has no expires_in, the token no exp"
        )
    return end


def _parse_number(value: object) -> float | None:
    """The number; some providers write numbers as texts."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]


def https_context(location: str | None, pem: str | None) -> ssl.SSLContext:
    """TLS as in librdkafka: a given authority replaces the system's authorities. Raises `OSError`."""
    if location in (None, "probe"):
        return ssl.create_default_context(cadata=pem)
    assert location is not None
    place = {"capath" if os.path.isdir(location) else "cafile": location}
    return ssl.create_default_context(cafile=place.get("cafile"), capath=place.get("capath"), cadata=pem)
