"""Tokens for endpoints from real token servers: a certified provider, and servers that are slow, huge or private."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network

import pytest

from builders import webhook
from fakes import FakeClock, FakeEncryption
from real.oidc import running_provider
from real.token_endpoint import TokenEndpoint
from streams.adapters.http.sender import HttpSender
from streams.core.deliveries.outcome import Failure, OutcomeKind
from streams.core.webhooks.auth import Auth
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import Webhook
from streams.stages.access_tokens import AccessTokens

pytestmark = pytest.mark.real
# What a form, a header and a URL each write in another way.
SECRET = "a secret: 100% + ~"


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    sender = HttpSender([ip_network("127.0.0.0/8")])
    yield sender
    await sender.close()


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


def crm(token_url: str, secret: str = SECRET, **more: str) -> Webhook:
    auth = {"type": "oauth2", "tokenUrl": token_url, "clientId": "crm", **more}
    return webhook(options=parse_options({"auth": auth}), encrypted_auth_secret=f"encrypted:{secret}")


async def token_of(sender: HttpSender, known: Webhook, seconds: float = 10) -> str | Failure:
    auth = known.options.auth
    assert isinstance(auth, Auth)
    return await AccessTokens(sender, FakeEncryption(), FakeClock()).token(known, auth, seconds)


@pytest.mark.parametrize("method", ["basic", "body"])
async def test_a_certified_provider_gives_a_token(
    sender: HttpSender, tmp_path_factory: pytest.TempPathFactory, method: str
) -> None:
    client = {
        "client_id": "crm",
        "client_secret": SECRET,
        "grant_types": ["client_credentials"],
        "response_types": [],
        "redirect_uris": [],
        "token_endpoint_auth_method": {"basic": "client_secret_basic", "body": "client_secret_post"}[method],
        "scope": "events:write",
    }
    with running_provider(client, tmp_path_factory.mktemp("oidc")) as issuer:
        known = crm(f"{issuer}/token", scope="events:write", clientAuthentication=method)
        assert isinstance(await token_of(sender, known), str)
        wrong = await token_of(sender, crm(f"{issuer}/token", "guess", clientAuthentication=method))
        assert isinstance(wrong, Failure)
        assert (wrong.kind, "(invalid_client)" in (wrong.message or "")) == (OutcomeKind.CREDENTIALS, True)
        scope = await token_of(sender, crm(f"{issuer}/token", scope="events:admin", clientAuthentication=method))
        assert isinstance(scope, Failure)
        assert (scope.kind, "(invalid_scope). Check auth.scope." in (scope.message or "")) == (
            OutcomeKind.CREDENTIALS,
            True,
        )


async def test_a_token_longer_than_an_attempt_keeps_is_whole(sender: HttpSender, endpoint: TokenEndpoint) -> None:
    token = "t" * 7000
    endpoint.instead = lambda: (200, json.dumps({"access_token": token, "expires_in": 60}).encode())
    assert await token_of(sender, crm(endpoint.url)) == token
    assert endpoint.credentials[0].startswith("Basic ")


async def test_a_huge_response_is_not_read(sender: HttpSender, endpoint: TokenEndpoint) -> None:
    endpoint.instead = lambda: (200, b'{"access_token": "t", "more": "' + b"x" * (64 * 1024 * 1024) + b'"}')
    began = time.monotonic()
    failure = await token_of(sender, crm(endpoint.url))
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.TOKEN_UNAVAILABLE
    assert time.monotonic() - began < 5


async def test_a_silent_server_is_not_waited_for(sender: HttpSender, endpoint: TokenEndpoint) -> None:
    endpoint.instead = lambda: None
    failure = await token_of(sender, crm(endpoint.url), 0.2)
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.TOKEN_UNAVAILABLE
    endpoint.stop()


async def test_a_private_token_server_is_never_asked(endpoint: TokenEndpoint) -> None:
    sender = HttpSender()
    try:
        failure = await token_of(sender, crm(endpoint.url))
    finally:
        await sender.close()
    assert isinstance(failure, Failure)
    assert failure.kind is OutcomeKind.CREDENTIALS
    assert "The token server 127.0.0.1 gave no token" in (failure.message or "")
    assert endpoint.forms == []
