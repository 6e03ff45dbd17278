"""Fetch a token by OAuth 2.0 client credentials (RFC 6749 §4.4), as librdkafka's `oidc` method does."""

import asyncio
import os
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass, field

from streams.adapters.kafka.connection.tokens import Token
from streams.core.errors import ProviderFailed, TokenUnavailable
from streams.core.text import escape_controls
from streams.core.webhooks.access_token import life_of, parse_json

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
        # librdkafka does not encode the id and the secret either, so the same values work here.
        basic = b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}
        async with (
            provider_call(f"{ENDPOINT_NAME} {_host(self.endpoint)}"),
            httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None) as client,
        ):
            response = await client.post(self.endpoint, data=form, headers=headers)
        return parse_response(response.status_code, response.content)


def parse_response(status: int, body: bytes) -> Token:
    """The token of a response. Raises `TokenUnavailable`, which shows only the error code of the response."""
    values = parse_json(body)
    if status in (400, 401) and values and isinstance(values.get("error"), str):
        code = escape_controls(values["error"][:MAX_ERROR_CHARACTERS])
        raise TokenUnavailable(f"{ENDPOINT_NAME} refuses this client: {code}")
    if status != 200:
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers with status {status}")
    if values is None:
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers with something else than a JSON object")
    token = values.get("access_token")
    if not isinstance(token, str) or not token:
        raise TokenUnavailable(f"{ENDPOINT_NAME} answers without an access_token")
    # The signature of a JWT is the broker's to check.
    seconds = life_of(token, values, time.time())
    if seconds is None:
        raise TokenUnavailable(
            f"{ENDPOINT_NAME} does not say how long the token is valid: it has no expires_in, the token no exp"
        )
    return Token(token, seconds)


def _host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]


def https_context(location: str | None, pem: str | None) -> ssl.SSLContext:
    """TLS as in librdkafka: a given authority replaces the system's authorities. Raises `OSError`."""
    if location in (None, "probe"):
        return ssl.create_default_context(cadata=pem)
    assert location is not None
    place = {"capath" if os.path.isdir(location) else "cafile": location}
    return ssl.create_default_context(cafile=place.get("cafile"), capath=place.get("capath"), cadata=pem)
