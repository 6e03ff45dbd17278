"""An OpenID Connect provider: authorization code with PKCE, by Authlib."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from streams.adapters.oidc.id_token import validate_claims
from streams.adapters.oidc.limited_transport import LimitedTransport, provider_call
from streams.adapters.oidc.metadata import DISCOVERY_PATH, Metadata, parse_keys, parse_metadata
from streams.core.accounts.oidc import EMAIL_CLAIMS, AuthorizationRequest, SignInRefused
from streams.core.errors import ProviderFailed
from streams.ports.runtime import Clock

# Providers change keys and endpoints rarely, and withdraw a key when it is stolen.
DOCUMENT_LIFETIME = timedelta(hours=1)
# A token with an unknown key causes the keys to be fetched again, at most this often.
MIN_KEY_FETCH_INTERVAL = timedelta(minutes=1)
_TOKEN_RESPONSE_FIELDS = ("access_token", "token_type", "id_token", "error")


@dataclass(frozen=True, slots=True)
class OidcClient:
    """This deployment as registered with the provider."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: str
    redirect_uri: str


class OidcProvider:
    """An `IdentityProvider` found by its issuer. Its metadata and keys are cached for an hour."""

    def __init__(self, client: OidcClient, clock: Clock, tls: ssl.SSLContext) -> None:
        self._client = client
        self._clock = clock
        self._tls = tls
        self._lock = asyncio.Lock()
        self._metadata: tuple[Metadata, datetime] | None = None
        self._keys: tuple[KeySet, datetime] | None = None

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        async with self._session() as session:
            metadata = await self._find_metadata(session)
            url, _ = session.create_authorization_url(
                metadata.authorization_endpoint,
                state=request.state,
                code_verifier=request.verifier,
                nonce=request.nonce,
            )
        return str(url)

    async def claims(self, code: str, request: AuthorizationRequest, claim_names: Set[str]) -> Mapping[str, object]:
        async with self._session() as session:
            metadata = await self._find_metadata(session)
            token = await self._fetch_token(session, metadata, code, request)
            claims = await self._validate(session, metadata, token, request.nonce)
            if claim_names <= claims.keys() or metadata.userinfo_endpoint is None or not token.get("access_token"):
                return claims
            userinfo = await _get_json(session, metadata.userinfo_endpoint, token["access_token"])
        return _merge_claims(claims, userinfo)

    def _session(self) -> Any:
        """An HTTP client for one sign-in: it follows no redirect, and uses no proxy of the environment."""
        session = AsyncOAuth2Client(
            self._client.client_id,
            self._client.client_secret,
            scope=self._client.scopes,
            redirect_uri=self._client.redirect_uri,
            code_challenge_method="S256",
            transport=LimitedTransport(httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False)),
            trust_env=False,
            follow_redirects=False,
        )
        session.register_client_auth_method(("client_secret_basic", _encode_basic_auth))
        session.register_compliance_hook("access_token_response", _filter_token_response)
        return session

    async def _find_metadata(self, session: Any) -> Metadata:
        async with provider_call("the provider's metadata"), self._lock:
            now = self._clock.now()
            if self._metadata is None or now - self._metadata[1] >= DOCUMENT_LIFETIME:
                url = self._client.issuer.rstrip("/") + DISCOVERY_PATH
                self._metadata = parse_metadata(await _get_json(session, url), self._client.issuer), now
            return self._metadata[0]

    async def _find_keys(self, session: Any, metadata: Metadata, max_age: timedelta) -> KeySet:
        """The keys, no older than `max_age`."""
        async with provider_call("the provider's key set"), self._lock:
            now = self._clock.now()
            if self._keys is None or now - self._keys[1] >= max_age:
                self._keys = parse_keys(await _get_json(session, metadata.jwks_uri)), now
            return self._keys[0]

    async def _fetch_token(
        self, session: Any, metadata: Metadata, code: str, request: AuthorizationRequest
    ) -> Mapping[str, Any]:
        session.token_endpoint_auth_method = metadata.token_auth_method
        try:
            async with provider_call("the provider's token endpoint"):
                token: Mapping[str, Any] = await session.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=request.verifier,
                    redirect_uri=self._client.redirect_uri,
                )
        except OAuthError as error:
            if error.error == "invalid_grant":
                raise SignInRefused("the provider does not accept the code") from None
            raise ProviderFailed(f"the provider's token endpoint answers {str(error.error)[:100]!r}") from None
        return token

    async def _validate(
        self, session: Any, metadata: Metadata, token: Mapping[str, Any], nonce: str
    ) -> Mapping[str, object]:
        for max_age in (DOCUMENT_LIFETIME, MIN_KEY_FETCH_INTERVAL):
            keys = await self._find_keys(session, metadata, max_age)
            try:
                return validate_claims(token, keys, metadata, self._client.client_id, nonce, self._clock.now())
            except InvalidKeyIdError:
                continue
        raise SignInRefused("the id token is signed with a key that the provider does not publish")


def _merge_claims(claims: Mapping[str, object], userinfo: object) -> Mapping[str, object]:
    """The claims of an id token, with claims that only the userinfo endpoint has. Raises `ProviderFailed`."""
    if not isinstance(userinfo, Mapping) or userinfo.get("sub") != claims["sub"]:
        raise ProviderFailed("the provider's userinfo endpoint does not answer about the person who signed in")
    id_token_claims = claims
    if not claims.keys() >= EMAIL_CLAIMS and "email" in userinfo:
        # An address and whether it is verified must come from the same source.
        id_token_claims = {name: value for name, value in claims.items() if name not in EMAIL_CLAIMS}
    return {**userinfo, **id_token_claims}


async def _get_json(session: Any, url: str, access_token: str | None = None) -> object:
    """The JSON of a response. Raises `ProviderFailed`."""
    headers = {"Accept": "application/json"}
    if access_token is not None:
        headers["Authorization"] = f"Bearer {access_token}"
    host = httpx2.URL(url).host
    async with provider_call(host):
        response = await session.request("GET", url, headers=headers, withhold_token=True)
    if response.status_code != 200:
        raise ProviderFailed(f"{host} answers with status {response.status_code}")
    return _parse_json(response, host)


def _parse_json(response: httpx2.Response, source: str) -> object:
    try:
        document: object = response.json()
    except (ValueError, RecursionError):
        raise ProviderFailed(f"{source} answers with something else than JSON") from None
    return document


def _filter_token_response(response: httpx2.Response) -> httpx2.Response:
    """Keep only the texts of a token response that a sign-in needs, so that Authlib cannot fail on other values."""
    source = "the provider's token endpoint"
    # An error has status 400 or 401 (RFC 6749 §5.2).
    if response.status_code not in (200, 400, 401):
        raise ProviderFailed(f"{source} answers with status {response.status_code}")
    document = _parse_json(response, source)
    answer = document if isinstance(document, Mapping) else {}
    texts = {name: answer[name] for name in _TOKEN_RESPONSE_FIELDS if isinstance(answer.get(name), str)}
    if response.status_code != 200:
        texts.setdefault("error", "an unknown error")
    return httpx2.Response(200, json=texts)


def _encode_basic_auth(client: Any, method: str, uri: str, headers: Any, body: str) -> tuple[str, Any, str]:
    """HTTP Basic with an encoded id and secret (RFC 6749 §2.3.1); Authlib does not encode them."""
    text = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["Authorization"] = f"Basic {b64encode(text.encode()).decode()}"
    return uri, headers, body
