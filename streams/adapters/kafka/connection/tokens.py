"""The OAuth token of this process, shared by all its Kafka clients."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from streams.adapters.threads import THREADS, run_in_daemon_thread
from streams.core.errors import TokenUnavailable
from streams.outage import KAFKA_TOKEN, Outages

# librdkafka looks for a new token each second, and authenticates again after 90 % of a token's lifetime.
RENEWAL_SHARE = 0.6
# The part of a token's lifetime after which librdkafka requests the next.
REFRESH_SHARE = 0.8
FETCH_TIMEOUT_SECONDS = 10.0
# confluent-kafka waits ten seconds for the token of a new client, then fails.
CALLBACK_TIMEOUT_SECONDS = 6.0
RETRY_SECONDS = 2.0
MAX_TOKEN_CHARACTERS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the seconds for which it is valid."""

    value: str = field(repr=False)
    seconds: float


# Requests a new token. Raises `TokenUnavailable`.
Fetch = Callable[[], Token]
# An `oauth_cb` of librdkafka returns the token, its expiry time in seconds since 1970, the principal, and SASL
# extensions.
CallbackResult = tuple[str, float, str, dict[str, str]]


class TokenSource:
    """Keeps a token until shortly before it expires. It is librdkafka's `oauth_cb`, and safe to share between threads.

    There is one fetch at a time, on its own thread. A caller waits for it only if there is no valid token. After a
    failure the next fetch begins `RETRY_SECONDS` later at the earliest.
    """

    def __init__(
        self,
        fetch: Fetch,
        extensions: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.monotonic,
        fetch_seconds: float = FETCH_TIMEOUT_SECONDS,
    ) -> None:
        self.extensions = dict(extensions or {})
        self._fetch = fetch
        self._now = now
        self._fetch_seconds = fetch_seconds
        self._lock = threading.Lock()
        # Set when the current fetch has ended.
        self._fetch_ended: threading.Event | None = None
        self._token: Token | None = None
        self._fetched_at = 0.0
        self._failed_at = 0.0
        self._problem: str | None = None

    def token(self, wait_seconds: float | None = None) -> Token:
        """A valid token. Raises `TokenUnavailable`."""
        fetch_ended = self._begin_if_due()
        if self._seconds_left() <= 0 and fetch_ended:
            self._wait(fetch_ended, wait_seconds)
        with self._lock:
            seconds_left = self._seconds_left()
            if self._token is None or seconds_left <= 0:
                raise TokenUnavailable(self._problem or self._timeout_message())
            return Token(self._token.value, seconds_left)

    def problem(self) -> str | None:
        """Why there is no valid token. None while there is one."""
        with self._lock:
            return None if self._seconds_left() > 0 else self._problem or self._timeout_message()

    def renew(self) -> float:
        """Fetch a token if one is due. Returns the seconds until the next renewal. Raises `TokenUnavailable`.

        It raises even while the last token is valid, so that the problem is known before the token expires.
        """
        fetch_ended = self._begin_if_due()
        if fetch_ended and not self._wait(fetch_ended):
            raise TokenUnavailable(self._timeout_message())
        with self._lock:
            if self._problem:
                raise TokenUnavailable(self._problem)
            return max(self._seconds_until_renewal(), 0.0)

    def __call__(self, config: str) -> CallbackResult:
        """Called by librdkafka. Without a valid token it returns the last one, and librdkafka asks again soon.

        It must not raise: with confluent-kafka 2.16, creating a consumer would fail with a `SystemError`.
        """
        try:
            token = self.token(CALLBACK_TIMEOUT_SECONDS)
        except TokenUnavailable:
            token = self._token or Token("unavailable", 0)
        # librdkafka should ask when the next token is ready, so it is given an earlier end than the token's.
        seconds = max(self._seconds_until_renewal() / REFRESH_SHARE, RETRY_SECONDS)
        return token.value, time.time() + seconds, "", self.extensions

    def _seconds_left(self) -> float:
        return self._token.seconds - (self._now() - self._fetched_at) if self._token else 0.0

    def _seconds_until_renewal(self) -> float:
        return self._seconds_left() - (1 - RENEWAL_SHARE) * self._token.seconds if self._token else 0.0

    def _begin_if_due(self) -> threading.Event | None:
        """The fetch in progress, which may have just begun."""
        with self._lock:
            has_just_failed = self._problem is not None and self._now() - self._failed_at < RETRY_SECONDS
            if self._fetch_ended is None and self._seconds_until_renewal() <= 0 and not has_just_failed:
                stop_event = threading.Event()
                try:
                    threading.Thread(target=self._run, args=(stop_event,), name="kafka-token", daemon=True).start()
                except RuntimeError as error:  # this machine starts no thread
                    self._problem, self._failed_at = f"no token for Kafka: {error}", self._now()
                else:
                    self._fetch_ended = stop_event
            return self._fetch_ended

    def _wait(self, fetch_ended: threading.Event, seconds: float | None = None) -> bool:
        return fetch_ended.wait(self._fetch_seconds if seconds is None else seconds)

    def _timeout_message(self) -> str:
        return f"no token for Kafka came within {self._fetch_seconds:g} seconds"

    def _run(self, stop_event: threading.Event) -> None:
        started_at = self._now()
        token, problem = _try_fetch(self._fetch)
        with self._lock:
            self._fetch_ended, self._problem = None, problem
            if token is not None:
                self._token, self._fetched_at = token, started_at
            else:
                self._failed_at = self._now()
        stop_event.set()


def _try_fetch(fetch: Fetch) -> tuple[Token | None, str | None]:
    """A new token, or why there is none."""
    try:
        return check_token(fetch()), None
    except TokenUnavailable as error:
        return None, str(error)
    except Exception as error:  # the libraries that fetch may raise anything, and their texts may hold secrets
        return None, f"no token for Kafka: {type(error).__name__}"


def check_token(token: Token) -> Token:
    """Check a token and return it. Raises `TokenUnavailable` if it cannot be sent in a SASL message."""
    if not token.value.isascii() or not token.value.isprintable() or " " in token.value or not token.value:
        raise TokenUnavailable("the token for Kafka is not one word of ASCII")
    if token.seconds <= 0:
        raise TokenUnavailable("the token for Kafka has ended already: compare the clocks")
    if len(token.value) > MAX_TOKEN_CHARACTERS:
        raise TokenUnavailable(f"the token for Kafka is longer than {MAX_TOKEN_CHARACTERS} characters")
    return token


async def keep_token(source: TokenSource, outages: Outages) -> None:
    """Renew the token in time until cancelled. A failure is an outage, although the last token may still be valid."""
    while True:
        seconds = await outages.retry(partial(run_in_daemon_thread, source.renew), RETRY_SECONDS, THREADS, KAFKA_TOKEN)
        # A provider may say that its tokens expire at once.
        await asyncio.sleep(max(seconds, RETRY_SECONDS))
