"""Access tokens of OAuth 2.0: the request to a token server, and the meaning of its response."""

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import USER_AGENT, Request
from streams.core.limits import MAX_TOKEN_CHARACTERS, MAX_TOKEN_RESPONSE_BYTES
from streams.core.webhooks.auth import Auth, ClientAuthentication, client_credentials
from streams.core.webhooks.url import host_of

# Without `expires_in`, and without a time in the token itself.
DEFAULT_LIFE_SECONDS = 300.0
# Shorter and longer lifetimes are not believed.
MIN_LIFE_SECONDS = 5.0
MAX_LIFE_SECONDS = 24 * 3600.0
MAX_EPOCH_SECONDS = 10**12
RENEWAL_SHARE = 0.8
RENEWAL_MARGIN_SECONDS = 30.0
_TOKEN = re.compile(r"[!-~]+", re.ASCII)
_ERROR_CODE = re.compile(r"[a-z_]{1,40}", re.ASCII)

# What to check for each error of a token server (RFC 6749 §5.2, RFC 8707 §2).
_ERROR_ADVICE = {
    "invalid_client": "auth.clientId, auth.clientSecret and auth.clientAuthentication",
    "unauthorized_client": "whether the client auth.clientId may use client credentials",
    "invalid_scope": "auth.scope",
    "invalid_target": "auth.resource and auth.audience",
    "invalid_request": "auth.scope, auth.audience and auth.resource",
    "unsupported_grant_type": "whether the server supports client credentials",
}


class AccessToken(NamedTuple):
    """A token, and the seconds for which it is still valid."""

    text: str
    life_seconds: float

    def __repr__(self) -> str:
        return f"AccessToken({self.life_seconds:g} s)"

    @property
    def renewal_seconds(self) -> float:
        """When to fetch the next one: at 80 % of its life or 30 s before it expires, but not in the first half."""
        soonest = min(RENEWAL_SHARE * self.life_seconds, self.life_seconds - RENEWAL_MARGIN_SECONDS)
        return max(soonest, self.life_seconds / 2)


def token_request(
    auth: Auth,
    client_secret: str,
    timeout_seconds: float,
    account_id: str = "",
    *,
    user_agent: str = USER_AGENT,
    is_encoded: bool = True,
) -> Request:
    """The request for a token (RFC 6749 §4.4.2). `is_encoded` is whether Basic credentials are form-encoded."""
    client_id = auth.client_id or ""
    form = {
        "grant_type": "client_credentials",
        "scope": auth.scope,
        "audience": auth.audience,
        "resource": auth.resource,
    }
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": user_agent,
        "Accept": "application/json",
    }
    private_names: set[str] = set()
    if auth.client_authentication is ClientAuthentication.BODY:
        form |= {"client_id": client_id, "client_secret": client_secret}
    else:
        headers["Authorization"] = client_credentials(client_id, client_secret, is_encoded=is_encoded)
        private_names.add("Authorization")
    body = urlencode({name: value for name, value in form.items() if value is not None}).encode()
    return Request(
        auth.token_url or "",
        headers,
        body,
        frozenset(private_names),
        timeout_seconds,
        MAX_TOKEN_RESPONSE_BYTES,
        account_id=account_id,
    )


def late_token(auth: Auth) -> Failure:
    """The time is too short for a token and the request with it."""
    return Failure(OutcomeKind.TOKEN_UNAVAILABLE, message=f"{_server_of(auth)} gave no token in time.")


def parse_token_response(result: Response | Failure, auth: Auth, now: float) -> AccessToken | Failure:
    """The token in a server's response, or why there is none. `now` is in Unix seconds.

    The error is `CREDENTIALS` if the customer's settings are wrong, `TOKEN_UNAVAILABLE` if the server fails, and
    `PROXY_ERROR` if the egress proxy does. The message names the server. It quotes only the response's error code,
    because the rest may contain secrets.
    """
    server = _server_of(auth)
    if isinstance(result, Failure):
        detail = f" ({result.detail})" if result.detail else ""
        kind = _KINDS.get(result.kind, OutcomeKind.TOKEN_UNAVAILABLE)
        return Failure(kind, message=f"{server} gave no token: {_FAILURES.get(result.kind, 'it failed')}{detail}.")
    values = parse_json(result.body) or {}
    if result.status == 200:
        token = _parse_token(values, now)
        if token is not None:
            return token
        message = f"{server} responded with 200, but without a valid bearer token."
        return Failure(OutcomeKind.TOKEN_UNAVAILABLE, message=message)
    if 300 <= result.status < 400:
        message = f"{server} responded with {result.status}, a redirect: set auth.tokenUrl to the final URL."
        return Failure(OutcomeKind.CREDENTIALS, message=message)
    if result.status in (408, 429) or result.status >= 500:
        message = f"{server} responded with {result.status}: it gives no token at the moment."
        return Failure(OutcomeKind.TOKEN_UNAVAILABLE, message=message)
    code = values.get("error")
    if isinstance(code, str) and _ERROR_CODE.fullmatch(code):
        advice = _ERROR_ADVICE.get(code, "the fields of auth")
        message = f"{server} responded with {result.status} ({code}). Check {advice}."
    else:
        message = f"{server} responded with {result.status}. Check auth.tokenUrl and the fields of auth."
    return Failure(OutcomeKind.CREDENTIALS, message=message)


def is_invalid_client(result: Response | Failure) -> bool:
    """Whether a token server does not know the client or its secret."""
    if isinstance(result, Failure) or result.status not in (400, 401):
        return False
    return result.status == 401 or (parse_json(result.body) or {}).get("error") == "invalid_client"


# Failures that the token server does not cause: the customer's settings and the egress proxy.
_KINDS = {
    OutcomeKind.FORBIDDEN_ADDRESS: OutcomeKind.CREDENTIALS,
    OutcomeKind.PROXY_ERROR: OutcomeKind.PROXY_ERROR,
}
_FAILURES = {
    OutcomeKind.TIMEOUT: "it did not respond in time",
    OutcomeKind.CONNECT_TIMEOUT: "no connection could be opened in time",
    OutcomeKind.DNS: "its host name does not resolve",
    OutcomeKind.REFUSED: "it refused the connection",
    OutcomeKind.RESET: "it closed the connection",
    OutcomeKind.TLS: "the TLS connection failed",
    OutcomeKind.FORBIDDEN_ADDRESS: "its host name resolves to an address that webhooks may not reach",
    OutcomeKind.INVALID_RESPONSE: "its response is not HTTP",
    OutcomeKind.PROXY_ERROR: "the platform's egress proxy opened no connection to it",
}


def _server_of(auth: Auth) -> str:
    return f"The token server {host_of(auth.token_url or '')}"


def parse_json(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object in a body; None for anything else."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def life_of(token: str, values: Mapping[str, Any], now: float) -> float | None:
    """The seconds for which a token is valid, from the response or the token; None if neither says it."""
    life = _to_seconds(values.get("expires_in"))
    if life is None and (end := _to_seconds(_claims(token).get("exp"))) is not None:
        return end - now
    return life


def _parse_token(values: Mapping[str, Any], now: float) -> AccessToken | None:
    token, token_type = values.get("access_token"), values.get("token_type", "bearer")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN_CHARACTERS:
        return None
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return None
    life = life_of(token, values, now)
    if life is None:
        life = DEFAULT_LIFE_SECONDS
    return AccessToken(token, min(max(life, MIN_LIFE_SECONDS), MAX_LIFE_SECONDS))


def _to_seconds(value: object) -> float | None:
    """A number of seconds; some servers write it as a text."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    # No clock has such a time.
    return number if -MAX_EPOCH_SECONDS < number < MAX_EPOCH_SECONDS else None


def _claims(token: str) -> Mapping[str, Any]:
    """The unverified claims of a JWT (RFC 7519); empty for another kind of token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))) or {}
    except ValueError:
        return {}
