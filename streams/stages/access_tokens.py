"""Keep the access tokens of webhooks: each is fetched once for many deliveries, and renewed before it expires."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cachetools import LRUCache

from streams.core.deliveries.outcome import Failure, Response
from streams.core.deliveries.request import USER_AGENT, Request
from streams.core.webhooks.access_token import (
    AccessToken,
    is_invalid_client,
    late_token,
    parse_token_response,
    token_request,
)
from streams.core.webhooks.auth import Auth, ClientAuthentication
from streams.core.webhooks.webhook import Webhook
from streams.ports.delivery import Encryption, Sender
from streams.ports.runtime import Clock

MAX_TOKENS = 10_000
# The most renewals in flight at once.
MAX_RENEWALS = 64
MAX_RENEWALS_OF_ACCOUNT = 8
# Between a failure and the next request to a token server, and between two tokens that an endpoint refuses.
MIN_FETCH_INTERVAL_SECONDS = 5.0

# A request for a token ends this long before its delivery stops waiting, so that the cause of its failure is known: it
# may be this system's.
FETCH_MARGIN_SECONDS = 0.1

Credentials = tuple[Auth, str | None]


@dataclass(slots=True, eq=False)
class _Token:
    """The token of one webhook. Times are seconds of `time.monotonic`.

    `is_encoded` is false for a server that wants Basic credentials as they are, though RFC 6749 §2.3.1 encodes them.
    """

    credentials: Credentials
    account_id: str
    token: AccessToken | None = None
    fetched_at: float = 0.0
    failed_at: float = -math.inf
    refused_at: float = -math.inf
    is_encoded: bool = True
    fetch_task: asyncio.Task[AccessToken | Failure] | None = None

    def valid_token(self, now: float) -> str | None:
        return self.token.text if self.token and now - self.fetched_at < self.token.life_seconds else None

    def needs_renewal(self, now: float) -> bool:
        return self.token is None or now - self.fetched_at >= self.token.renewal_seconds


class AccessTokens:
    """The tokens for the deliveries that this process sends. The least recently used ones are forgotten."""

    def __init__(
        self,
        sender: Sender,
        encryption: Encryption,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._user_agent = user_agent
        self._sender = sender
        self._encryption = encryption
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens: LRUCache[str, _Token] = LRUCache(MAX_TOKENS)
        # No delivery waits for these, so no slot limits their requests.
        self._renewing: set[_Token] = set()

    async def token(
        self, webhook: Webhook, auth: Auth, timeout_seconds: float, on_wait: Callable[[], None] = lambda: None
    ) -> str | Failure:
        """The webhook's token, or why there is none after at most `timeout_seconds`. Calls `on_wait` before it waits.

        After a failure the next request waits for a moment, at most for half of that time, and so do the deliveries
        that need the token, so that failures do not multiply. Raises `Unavailable` if this machine is short of a
        resource, and `InvalidRecord` without the encryption key.
        """
        deadline = self._monotonic() + timeout_seconds
        entry = self._entry(webhook, auth)
        rest_seconds = entry.failed_at + MIN_FETCH_INTERVAL_SECONDS - self._monotonic()
        valid_token = entry.valid_token(self._monotonic())
        if valid_token is not None:
            if rest_seconds <= 0 and entry.needs_renewal(self._monotonic()) and self._may_renew(entry):
                self._renewing.add(entry)
                renewal = self._start_fetch(entry, auth, timeout_seconds)
                renewal.add_done_callback(lambda _: self._renewing.discard(entry))
            return valid_token
        on_wait()
        if rest_seconds > 0 and (entry.fetch_task is None or entry.fetch_task.done()):
            await self._sleep(min(rest_seconds, timeout_seconds / 2))
            entry = self._entry(webhook, auth)
            if (valid_token := entry.valid_token(self._monotonic())) is not None:
                return valid_token
        seconds_left = deadline - self._monotonic()
        if seconds_left <= 0:
            return late_token(auth)
        fetch_seconds = max(seconds_left - FETCH_MARGIN_SECONDS, seconds_left / 2)
        done, _ = await asyncio.wait({self._start_fetch(entry, auth, fetch_seconds)}, timeout=seconds_left)
        if not done:
            return late_token(auth)
        outcome = done.pop().result()
        return outcome.text if isinstance(outcome, AccessToken) else outcome

    def reject(self, webhook_id: str, used_token: str) -> bool:
        """Forget a token that the endpoint refused with 401. False if it refused another one a moment ago."""
        entry = self._tokens.get(webhook_id)
        if entry is None or entry.token is None or entry.token.text != used_token:
            # Another delivery has renewed it already.
            return True
        now = self._monotonic()
        if now - entry.refused_at < MIN_FETCH_INTERVAL_SECONDS:
            return False
        entry.token, entry.refused_at = None, now
        return True

    def _entry(self, webhook: Webhook, auth: Auth) -> _Token:
        credentials = auth, webhook.encrypted_auth_secret
        entry = self._tokens.get(webhook.id)
        if entry is None or entry.credentials != credentials:
            entry = self._tokens[webhook.id] = _Token(credentials, webhook.account_id)
        return entry

    def _may_renew(self, entry: _Token) -> bool:
        """Whether there is room. If not, the token is renewed or fetched again with the next delivery."""
        of_account = sum(other.account_id == entry.account_id for other in self._renewing)
        return (
            entry not in self._renewing and len(self._renewing) < MAX_RENEWALS and of_account < MAX_RENEWALS_OF_ACCOUNT
        )

    def _start_fetch(self, entry: _Token, auth: Auth, timeout_seconds: float) -> asyncio.Task[AccessToken | Failure]:
        """The fetch that is under way, or a new one."""
        if entry.fetch_task is None or entry.fetch_task.done():
            entry.fetch_task = asyncio.create_task(self._fetch(entry, auth, timeout_seconds))
            # Perhaps no delivery waits for it. The next one that needs the token fetches it again.
            entry.fetch_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return entry.fetch_task

    async def _fetch(self, entry: _Token, auth: Auth, timeout_seconds: float) -> AccessToken | Failure:
        secret = self._encryption.decrypt(entry.credentials[1] or "")
        started_at = self._monotonic()
        request = self._request(entry, auth, secret, timeout_seconds, is_encoded=entry.is_encoded)
        result = await self._sender.send(request)
        is_basic = auth.client_authentication is not ClientAuthentication.BODY
        seconds_left = timeout_seconds - (self._monotonic() - started_at)
        if is_basic and is_invalid_client(result) and seconds_left > 0:
            other_request = self._request(entry, auth, secret, seconds_left, is_encoded=not entry.is_encoded)
            if other_request.headers != request.headers:
                other_result = await self._sender.send(other_request)
                if isinstance(other_result, Response) and other_result.status == 200:
                    result, entry.is_encoded = other_result, not entry.is_encoded
        outcome = parse_token_response(result, auth, self._clock.now().timestamp())
        if isinstance(outcome, Failure):
            entry.failed_at = self._monotonic()
        else:
            entry.token, entry.fetched_at, entry.failed_at = outcome, started_at, -math.inf
        return outcome

    def _request(self, entry: _Token, auth: Auth, secret: str, timeout_seconds: float, *, is_encoded: bool) -> Request:
        return token_request(
            auth, secret, timeout_seconds, entry.account_id, user_agent=self._user_agent, is_encoded=is_encoded
        )
