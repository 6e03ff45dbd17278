"""Authlib's client on a real socket: what it sends, which tokens it accepts, and what a provider can do wrong."""

import asyncio
import gzip
import hmac
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from adapters.oidc_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    OTHER_RSA,
    RSA,
    Answer,
    OidcServer,
    body,
    error,
    hang_up,
    oidc_server,
    silence,
    status,
    without_end,
)
from joserfc.jwk import ECKey, OctKey, OKPKey

from builders import NOON
from fakes import FakeClock
from streams.adapters.oidc import limited_transport
from streams.adapters.oidc.provider import OidcClient, OidcProvider
from streams.core.accounts.oidc import AuthorizationRequest, SignInRefused
from streams.core.errors import ProviderFailed

pytestmark = pytest.mark.slow

REDIRECT_URI = "https://hooks.example.com/sign-in/oidc/callback"
REQUEST = AuthorizationRequest("the-state", "nonce", "v" * 43)
METADATA, KEYS, TOKEN, USERINFO = "/.well-known/openid-configuration", "/jwks", "/token", "/me"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OidcServer]:
    async with oidc_server(NOON) as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def provider(server: OidcServer, clock: FakeClock) -> OidcProvider:
    return provider_of(server.issuer, clock)


def provider_of(issuer: str, clock: FakeClock) -> OidcProvider:
    client = OidcClient(issuer, CLIENT_ID, CLIENT_SECRET, "openid email", REDIRECT_URI)
    return OidcProvider(client, clock, ssl.create_default_context())


async def claims_of(provider: OidcProvider, *wanted: str) -> Any:
    return await provider.claims("the code", REQUEST, frozenset(wanted))


# -- what is sent ----------------------------------------------------------------------------------------------


async def test_the_browser_is_sent_with_pkce_state_and_nonce(server: OidcServer, provider: OidcProvider) -> None:
    url = urlsplit(await provider.authorization_url(REQUEST))
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{server.issuer}/auth"
    assert parse_qs(url.query) == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": [CLIENT_ID],
        "redirect_uri": [REDIRECT_URI],
        "scope": ["openid email"],
        "state": ["the-state"],
        "nonce": ["nonce"],
        # base64url(SHA-256("v" * 43))
        "code_challenge": ["7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM"],
        "code_challenge_method": ["S256"],
    }


async def test_the_code_is_sent_with_the_verifier(server: OidcServer, provider: OidcProvider) -> None:
    claims = await claims_of(provider)
    assert (claims["sub"], claims["iss"]) == ("ada-1", server.issuer)
    [form] = server.forms
    assert form == {
        "grant_type": "authorization_code",
        "code": "the code",
        "code_verifier": "v" * 43,
        "redirect_uri": REDIRECT_URI,
    }
    # Encoded, as RFC 6749 §2.3.1 asks.
    assert server.credentials == ["webhooks:a+secret%3A+100%25+%2B+~"]


async def test_the_secret_is_in_the_form_where_only_that_works(server: OidcServer, provider: OidcProvider) -> None:
    server.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt", "client_secret_post"]
    await claims_of(provider)
    [form] = server.forms
    assert (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
    assert server.credentials == [""]


async def test_metadata_and_keys_are_read_once_an_hour(
    server: OidcServer, provider: OidcProvider, clock: FakeClock
) -> None:
    for seconds, count in ((0, 1), (3599, 1), (1, 2)):
        clock.advance(seconds)
        server.now = clock.now()
        await asyncio.gather(*(claims_of(provider) for _ in range(3)))
        assert (server.requests[METADATA], server.requests[KEYS]) == (count, count)


async def test_an_issuer_may_end_with_a_slash(server: OidcServer, clock: FakeClock) -> None:
    assert (await claims_of(provider_of(f"{server.issuer}/", clock)))["sub"] == "ada-1"
    server.metadata["issuer"] = f"{server.issuer}/"
    server.claims["iss"] = f"{server.issuer}/"
    assert (await claims_of(provider_of(server.issuer, clock)))["sub"] == "ada-1"


# -- which tokens are accepted ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "EdDSA"])
async def test_each_signature_by_a_private_key_is_accepted(
    server: OidcServer, provider: OidcProvider, algorithm: str
) -> None:
    if algorithm == "ES256":
        server.key = ECKey.generate_key("P-256", {"kid": "first"})
    elif algorithm == "EdDSA":
        server.key = OKPKey.generate_key("Ed25519", {"kid": "first"})
    server.header["alg"] = algorithm
    server.published = [{"kty": "future", "kid": "0"}, {"kty": "EC", "crv": "P-0"}, server.key.as_dict(private=False)]
    server.metadata["id_token_signing_alg_values_supported"] = ["HS256", "none", algorithm]
    assert (await claims_of(provider))["sub"] == "ada-1"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": int(NOON.timestamp()) - 60}, id="expired"),
        pytest.param({"exp": None}, id="without an end"),
        pytest.param({"exp": "tomorrow"}, id="an end that is not a number"),
        pytest.param({"iat": int(NOON.timestamp()) + 61}, id="issued in the future"),
        pytest.param({"nbf": int(NOON.timestamp()) + 61}, id="valid in the future"),
        pytest.param({"aud": "another client"}, id="another audience"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"aud": [CLIENT_ID, "another"], "azp": "another"}, id="for another client"),
        pytest.param({"aud": [CLIENT_ID, "another"]}, id="two audiences"),
        pytest.param({"iss": "https://evil.example"}, id="another issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"nonce": "another"}, id="another nonce"),
        pytest.param({"nonce": None}, id="no nonce"),
        pytest.param({"nonce": ["nonce"]}, id="a list of nonces"),
        pytest.param({"sub": None}, id="no subject"),
        pytest.param({"sub": 7}, id="a subject that is a number"),
        pytest.param({"at_hash": "another"}, id="another access token"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    server: OidcServer, provider: OidcProvider, claims: dict[str, Any]
) -> None:
    server.claims = claims
    with pytest.raises(SignInRefused, match="the id token is not valid") as refused:
        await claims_of(provider)
    assert "ada-1" not in str(refused.value)


@pytest.mark.parametrize("claims", [{"aud": [CLIENT_ID]}, {"exp": int(NOON.timestamp()) - 59}, {"azp": CLIENT_ID}])
async def test_a_list_and_a_clock_a_minute_off_are_accepted(
    server: OidcServer, provider: OidcProvider, claims: dict[str, Any]
) -> None:
    server.claims = claims
    assert (await claims_of(provider))["sub"] == "ada-1"


def base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


NONE, HS256 = (base64url(f'{{"alg":"{name}","kid":"first"}}'.encode()) for name in ("none", "HS256"))


def forged(server: OidcServer, how: str) -> str:
    """An id token that is made without the private key of the provider."""
    genuine = server.id_token()
    header, payload, signature = genuine.split(".")
    if how == "another key":
        server.key = OTHER_RSA
        return server.id_token()
    if how == "none":
        return f"{NONE}.{payload}."
    if how == "no signature":
        return f"{header}.{payload}."
    if how == "the public key as a secret":
        # joserfc refuses to make such a key.
        signed = f"{HS256}.{payload}"
        return f"{signed}.{base64url(hmac.digest(RSA.as_pem(private=False), signed.encode(), 'sha256'))}"
    if how == "another payload":
        return f"{header}.{payload[:-4]}AAAA.{signature}"
    return how


@pytest.mark.parametrize(
    "how",
    ["another key", "none", "no signature", "the public key as a secret", "another payload", "a.b.c", "a" * 300_000],
)
async def test_a_forged_token_is_refused(server: OidcServer, provider: OidcProvider, how: str) -> None:
    server.metadata["id_token_signing_alg_values_supported"] = ["RS256", "HS256", "none"]
    server.token["id_token"] = forged(server, how)
    with pytest.raises((SignInRefused, ProviderFailed)):
        await claims_of(provider)


async def test_a_published_secret_verifies_nothing(server: OidcServer, provider: OidcProvider) -> None:
    secret = OctKey.generate_key(256, {"kid": "shared"})
    server.metadata["id_token_signing_alg_values_supported"] = ["HS256", "RS256"]
    server.published.append(dict(secret.as_dict(private=True)))
    server.key, server.header = secret, {"alg": "HS256", "kid": "shared"}
    with pytest.raises(SignInRefused):
        await claims_of(provider)


async def test_a_key_for_encryption_verifies_nothing(server: OidcServer, provider: OidcProvider) -> None:
    server.published[0]["use"] = "enc"
    with pytest.raises(SignInRefused, match="a key that the provider does not publish"):
        await claims_of(provider)


async def test_a_new_key_is_fetched_at_most_once_a_minute(
    server: OidcServer, provider: OidcProvider, clock: FakeClock
) -> None:
    await claims_of(provider)
    server.key, server.header = OTHER_RSA, {"alg": "RS256", "kid": "second"}
    for seconds, count in ((59, 1), (1, 2), (0, 2), (59, 2), (1, 3)):
        clock.advance(seconds)
        with pytest.raises(SignInRefused, match="a key that the provider does not publish"):
            await claims_of(provider)
        assert server.requests[KEYS] == count
    server.published = [OTHER_RSA.as_dict(private=False)]
    clock.advance(60)
    assert (await claims_of(provider))["sub"] == "ada-1"
    assert server.requests[KEYS] == 4


# -- userinfo --------------------------------------------------------------------------------------------------


async def test_claims_come_from_userinfo_if_the_token_lacks_them(server: OidcServer, provider: OidcProvider) -> None:
    server.claims = {"accounts": ["acc_1"]}
    server.userinfo = {"sub": "ada-1", "role": "owner", "accounts": ["acc_2"]}
    claims = await claims_of(provider, "accounts", "role")
    assert (claims["role"], claims["accounts"]) == ("owner", ["acc_1"])
    server.claims = {"accounts": ["acc_1"], "role": "viewer"}
    assert (await claims_of(provider, "accounts", "role"))["role"] == "viewer"
    assert server.requests[USERINFO] == 1


async def test_an_address_is_verified_where_it_comes_from(server: OidcServer, provider: OidcProvider) -> None:
    server.claims = {"email": "ada@acme.example"}
    server.userinfo = {"sub": "ada-1", "email": "eve@evil.example", "email_verified": True}
    claims = await claims_of(provider, "email", "email_verified")
    assert (claims["email"], claims["email_verified"]) == ("eve@evil.example", True)
    server.userinfo = {"sub": "ada-1", "email_verified": True}
    server.claims = {"email": "ada@acme.example", "email_verified": False}
    assert (await claims_of(provider, "email", "email_verified"))["email_verified"] is False


@pytest.mark.parametrize("userinfo", [{"sub": "eve-1"}, {}, []])
async def test_userinfo_of_another_person_is_refused(server: OidcServer, provider: OidcProvider, userinfo: Any) -> None:
    server.userinfo = userinfo
    with pytest.raises(ProviderFailed, match="does not answer about the person who signed in"):
        await claims_of(provider, "role")


# -- what a provider can do wrong ------------------------------------------------------------------------------

BOMB = gzip.compress(b" " * 50_000_000)
WRONG: dict[str, Answer] = {
    "500": status(500),
    "404": status(404),
    "a redirect": status(302, Location="https://evil.example/"),
    "no JSON": body(b"<html>"),
    "no text": body(b"\xff\xfe\x00"),
    "a list": body(b"[]"),
    "null": body(b"null"),
    "an empty object": body(b"{}"),
    "nothing": body(b""),
    "deep": body(b"[" * 500_000),
    "infinite": body(b'{"expires_in": 1e999, "keys": 1e999, "issuer": 1e999}'),
    "compressed": body(BOMB, 200, **{"Content-Encoding": "gzip"}),
    "without an end": without_end,
    "hung up": hang_up,
}


@pytest.mark.parametrize("path", [METADATA, KEYS, TOKEN, USERINFO])
@pytest.mark.parametrize("wrong", WRONG)
async def test_nonsense_of_a_provider_is_its_failure(
    server: OidcServer, provider: OidcProvider, path: str, wrong: str
) -> None:
    server.userinfo = {"sub": "ada-1", "role": "owner"}
    server.instead[path] = WRONG[wrong]
    with pytest.raises(ProviderFailed) as failed:
        await claims_of(provider, "role")
    assert str(failed.value)
    del server.instead[path]
    assert (await claims_of(provider, "role"))["role"] == "owner"


@pytest.fixture
def _is_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_transport, "TIMEOUT_SECONDS", 0.2)


@pytest.mark.usefixtures("_is_impatient")
@pytest.mark.parametrize("path", [METADATA, KEYS, TOKEN, USERINFO])
async def test_a_silent_provider_is_given_up(server: OidcServer, provider: OidcProvider, path: str) -> None:
    server.userinfo = {"sub": "ada-1"}
    server.instead[path] = silence
    with pytest.raises(ProviderFailed, match=r"did not respond within 0\.2 seconds"):
        await claims_of(provider, "role")


@pytest.mark.usefixtures("_is_impatient")
async def test_nobody_waits_for_another_persons_timeout(server: OidcServer, provider: OidcProvider) -> None:
    server.instead[METADATA] = silence
    async with asyncio.timeout(2):
        results = await asyncio.gather(*(claims_of(provider) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {ProviderFailed}


async def test_a_provider_that_is_not_there_is_named(clock: FakeClock) -> None:
    with pytest.raises(ProviderFailed, match="127"):
        await provider_of("http://127.0.0.1:1", clock).authorization_url(REQUEST)


@pytest.mark.parametrize(("code", "kind"), [("invalid_grant", SignInRefused), ("invalid_client", ProviderFailed)])
async def test_only_an_invalid_code_is_the_fault_of_the_person(
    server: OidcServer, provider: OidcProvider, code: str, kind: type[Exception]
) -> None:
    server.instead[TOKEN] = error(code, 401 if code == "invalid_client" else 400)
    with pytest.raises(kind) as refused:
        await claims_of(provider)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "ftp://127.0.0.1/"},
        {"token_endpoint": "/token"},
        {"token_endpoint": "https://[/"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://login.example.com/\r\nSet-Cookie: x"},
        {"id_token_signing_alg_values_supported": ["HS256", "none"]},
        {"id_token_signing_alg_values_supported": "RS256"},
        {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
    ],
)
async def test_metadata_that_cannot_be_used_is_refused(
    server: OidcServer, provider: OidcProvider, metadata: dict[str, Any]
) -> None:
    server.metadata = metadata
    with pytest.raises(ProviderFailed, match="the provider"):
        await provider.authorization_url(REQUEST)
