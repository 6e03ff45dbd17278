"""Detect an outage of this deployment's network, in which every endpoint seems to fail."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.outcome import NETWORK_KINDS

OUTAGE_WINDOW = timedelta(seconds=60)
MIN_WEBHOOKS = 20
MIN_HOSTS = 10


@dataclass(frozen=True, slots=True)
class _NewestAttempt:
    host: str
    ended_at: datetime


@dataclass(slots=True)
class OwnNetwork:
    """The newest outcome of each webhook with an attempt in the last 60 seconds.

    Only the newest counts: it shows an outage at once, while an earlier success would stay in the window.
    """

    _newest_attempts: dict[str, _NewestAttempt] = field(default_factory=dict)
    _failed_webhooks: set[str] = field(default_factory=set)
    _now: datetime | None = None
    _prune_threshold: int = 1000

    def record_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Add attempts."""
        for attempt in attempts:
            newest = self._newest_attempts.get(attempt.webhook_id)
            if newest is None or newest.ended_at <= attempt.ended_at:
                self._newest_attempts[attempt.webhook_id] = _NewestAttempt(_host(attempt.url), attempt.ended_at)
                is_network_failure = attempt.outcome in NETWORK_KINDS
                (self._failed_webhooks.add if is_network_failure else self._failed_webhooks.discard)(attempt.webhook_id)
            self._now = max(self._now or attempt.ended_at, attempt.ended_at)
        if len(self._newest_attempts) > self._prune_threshold:
            self._prune()
            self._prune_threshold = max(1000, 2 * len(self._newest_attempts))

    def is_down(self) -> bool:
        """Whether at least half of 20 or more webhooks, and of 10 or more hosts, cannot be reached at all."""
        if 2 * len(self._failed_webhooks) < MIN_WEBHOOKS:
            return False
        self._prune()
        hosts = {newest.host for newest in self._newest_attempts.values()}
        # Most webhooks may share one host: if it is down, the network is still fine.
        failed_hosts = {self._newest_attempts[webhook_id].host for webhook_id in self._failed_webhooks}
        has_enough = len(self._newest_attempts) >= MIN_WEBHOOKS and len(hosts) >= MIN_HOSTS
        return (
            has_enough
            and 2 * len(self._failed_webhooks) >= len(self._newest_attempts)
            and 2 * len(failed_hosts) >= len(hosts)
        )

    def _prune(self) -> None:
        if self._now is not None:
            since = self._now - OUTAGE_WINDOW
            self._newest_attempts = {
                name: newest for name, newest in self._newest_attempts.items() if newest.ended_at >= since
            }
            self._failed_webhooks &= self._newest_attempts.keys()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return url
