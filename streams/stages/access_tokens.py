"""Keep the access tokens of webhooks: each is fetched once for many deliveries, and renewed before its end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from streams.core.deliveries.outcome import Failure, OutcomeKind
from streams.core.webhooks.access_token import (
    AccessToken,
    is_invalid_client,
    parse_token_response,
    token_failure,
    token_request,
)
from streams.core.webhooks.auth import Auth, ClientAuthentication
from streams.core.webhooks.webhook import Webhook
from streams.ports.delivery import Encryption, Sender
from streams.ports.runtime import Clock

MAX_TOKENS = 10_000
FETCH_TIMEOUT_SECONDS = 10.0
# After a failure, and after a token that an endpoint refused: a token server gets no storm of requests.
MIN_FETCH_INTERVAL_SECONDS = 5.0

Credentials = tuple[Auth, str | None]


@dataclass(slots=True, eq=False)
class _Token:
    """What is known of one webhook's token. Times are seconds of `time.monotonic`."""

    credentials: Credentials
    token: AccessToken | None = None
    fetched_at: float = 0.0
    failure: Failure | None = None
    failed_at: float = 0.0
    # A server may want Basic credentials as they are, though RFC 6749 §2.3.1 encodes them.
    is_encoded: bool = True
    fetch_task: asyncio.Task[AccessToken | Failure] | None = None

    def age(self, now: float) -> float:
        return now - self.fetched_at

    def valid_token(self, now: float) -> str | None:
        return self.token.text if self.token and self.age(now) < self.token.life_seconds else None


class AccessTokens:
    """The tokens of the webhooks whose deliveries this process sends. The least recently used ones are forgotten."""

    def __init__(
        self,
        sender: Sender,
        encryption: Encryption,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._encryption = encryption
        self._clock = clock
        self._monotonic = monotonic
        self._tokens: LRUCache[str, _Token] = LRUCache(MAX_TOKENS)

    async def token(self, webhook: Webhook, auth: Auth, timeout_seconds: float) -> str | Failure:
        """The webhook's token, or why there is none after at most `timeout_seconds`.

        Raises `Unavailable` if this machine is short of a resource, and `InvalidRecord` without the encryption key.
        """
        credentials = auth, webhook.encrypted_auth_secret
        kept = self._tokens.get(webhook.id)
        if kept is None or kept.credentials != credentials:
            kept = self._tokens[webhook.id] = _Token(credentials)
        now = self._monotonic()
        valid_token = kept.valid_token(now)
        if valid_token is not None and kept.token and kept.age(now) < kept.token.renewal_seconds:
            return valid_token
        has_just_failed = kept.failure is not None and now - kept.failed_at < MIN_FETCH_INTERVAL_SECONDS
        if not has_just_failed and (kept.fetch_task is None or kept.fetch_task.done()):
            kept.fetch_task = asyncio.create_task(self._fetch(kept, auth))
            # Perhaps no delivery waits for it. The next one that needs the token fetches it again.
            kept.fetch_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        if valid_token is not None:
            return valid_token
        if has_just_failed or kept.fetch_task is None:
            return kept.failure or token_failure(OutcomeKind.TIMEOUT, auth)
        done, _ = await asyncio.wait({kept.fetch_task}, timeout=timeout_seconds)
        if not done:
            return token_failure(OutcomeKind.TIMEOUT, auth)
        outcome = done.pop().result()
        return outcome.text if isinstance(outcome, AccessToken) else outcome

    def reject(self, webhook_id: str, used_token: str) -> bool:
        """Forget a token that the endpoint refused with 401. False if another try would send the same one."""
        kept = self._tokens.get(webhook_id)
        if kept is None or kept.token is None or kept.token.text != used_token:
            # Another delivery has renewed it already.
            return True
        if kept.age(self._monotonic()) < MIN_FETCH_INTERVAL_SECONDS:
            return False
        kept.token = None
        return True

    async def _fetch(self, kept: _Token, auth: Auth) -> AccessToken | Failure:
        secret = self._encryption.decrypt(kept.credentials[1] or "")
        request = token_request(auth, secret, FETCH_TIMEOUT_SECONDS, is_encoded=kept.is_encoded)
        result = await self._sender.send(request)
        is_basic = auth.client_authentication is not ClientAuthentication.BODY
        if is_basic and is_invalid_client(result):
            other_request = token_request(auth, secret, FETCH_TIMEOUT_SECONDS, is_encoded=not kept.is_encoded)
            if other_request.headers != request.headers:
                other_result = await self._sender.send(other_request)
                if not is_invalid_client(other_result):
                    result, kept.is_encoded = other_result, not kept.is_encoded
        outcome = parse_token_response(result, auth, self._clock.now().timestamp())
        now = self._monotonic()
        if isinstance(outcome, Failure):
            kept.failure, kept.failed_at = outcome, now
        else:
            kept.token, kept.fetched_at, kept.failure = outcome, now, None
        return outcome
