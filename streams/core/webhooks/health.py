"""The health of a webhook: consecutive failures, where failures at the same time count as one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.deliveries.delivery import Target, Trigger
from streams.core.deliveries.outcome import LEASE_KINDS, NETWORK_KINDS, OutcomeKind
from streams.core.webhooks.delivery_options import DEFAULT_PAUSE_AFTER, PauseAfter
from streams.core.webhooks.webhook import PauseReason

# A failure that is recorded later does not count: `record` was down for long, or reads old records again.
MAX_FAILURE_AGE = timedelta(minutes=10)

# The endpoint asked to wait, the fault is this system's, or a reader took no item: the endpoint is not broken.
UNCOUNTED_OUTCOMES = LEASE_KINDS | {OutcomeKind.THROTTLED, OutcomeKind.UNSENDABLE, OutcomeKind.PROXY_ERROR}

FALLBACK_FAILURES_TO_REST = 5
FALLBACK_REST_SECONDS = 600.0
# A forgotten endpoint is tried again as if it had not failed.
MAX_FAILING_FALLBACKS = 10_000


class Fallbacks:
    """The health of failing fallback endpoints, by webhook id."""

    def __init__(self) -> None:
        self._failing: dict[str, FallbackHealth] = {}

    def is_resting(self, webhook_id: str, now: datetime) -> bool:
        health = self._failing.get(webhook_id)
        return health is not None and health.is_resting(now)

    def record_result(self, webhook_id: str, is_delivered: bool, now: datetime) -> None:
        """Count an attempt that ended at `now`."""
        health = self._failing.pop(webhook_id, None) or FallbackHealth()
        health.record_result(is_delivered, now)
        if health.failures:
            self._failing[webhook_id] = health
            if len(self._failing) > MAX_FAILING_FALLBACKS:
                del self._failing[next(iter(self._failing))]


@dataclass(slots=True)
class FallbackHealth:
    """Health of a fallback endpoint: after five failures in a row it is not tried for ten minutes."""

    failures: int = 0
    resting_until: datetime | None = None

    def is_resting(self, now: datetime) -> bool:
        return self.resting_until is not None and now < self.resting_until

    def record_result(self, is_delivered: bool, now: datetime) -> None:
        """Count an attempt that ended at `now`."""
        self.failures = 0 if is_delivered else self.failures + 1
        should_rest = self.failures >= FALLBACK_FAILURES_TO_REST
        self.resting_until = now + timedelta(seconds=FALLBACK_REST_SECONDS) if should_rest else None


def epoch_after_restore(now: datetime) -> int:
    """A health epoch above all attempts' epochs: a restored database does not know all attempts.

    Minutes since 1970: more than a webhook is ever enabled, and small enough for a 32-bit column.
    """
    return int(now.timestamp()) // 60


class HealthSample(NamedTuple):
    """The fields of a stored attempt that health depends on."""

    health_epoch: int
    trigger: Trigger
    target: Target
    outcome: OutcomeKind
    started_at: datetime
    ended_at: datetime
    status: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A webhook's failure streak in its current health epoch; `pause` is set when the streak is over the limit.

    `last_status` and `last_message` belong to the last failure.
    """

    epoch: int = 1
    failures: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    pause: PauseReason | None = None
    last_status: int | None = None
    last_message: str | None = None

    def with_attempts(
        self,
        attempts: Iterable[HealthSample],
        *,
        pause_after: PauseAfter = DEFAULT_PAUSE_AFTER,
        counted_since: datetime | None = None,
        own_network_is_down: bool = False,
    ) -> "Health":
        """The health after these new attempts, in the order of their partition.

        Failures that ended before `counted_since` do not count; a success of any age does. While this deployment's
        network is down, network failures do not count.
        """
        health = self
        for attempt in attempts:
            is_old = (
                counted_since is not None
                and attempt.ended_at < counted_since
                and attempt.outcome is not OutcomeKind.DELIVERED
            )
            if not (is_old or (own_network_is_down and attempt.outcome in NETWORK_KINDS)):
                health = health._count(attempt, pause_after)
        return health

    def _count(self, attempt: HealthSample, pause_after: PauseAfter) -> "Health":
        if attempt.health_epoch != self.epoch or self.pause is not None:
            return self
        if attempt.trigger is Trigger.TEST or attempt.target is not Target.PRIMARY:
            return self
        if attempt.outcome is OutcomeKind.DELIVERED:
            return self._succeed(attempt)
        if attempt.trigger is Trigger.MANUAL:
            # A person sees it fail: a large replay must not pause the webhook.
            return self
        if attempt.outcome is OutcomeKind.GONE:
            return replace(self._fail(attempt, pause_after), pause=PauseReason.GONE)
        return self if attempt.outcome in UNCOUNTED_OUTCOMES else self._fail(attempt, pause_after)

    def _succeed(self, attempt: HealthSample) -> "Health":
        if self.last_failed_at is None or attempt.ended_at <= self.last_failed_at:
            return self
        return Health(self.epoch)

    def _fail(self, attempt: HealthSample, pause_after: PauseAfter) -> "Health":
        # Requests in flight at the same time fail together: only one that started after the last failure counts again.
        if self.last_failed_at is not None and attempt.started_at < self.last_failed_at:
            return self
        failures, first_failed_at = self.failures + 1, self.first_failed_at or attempt.started_at
        is_over_limit = pause_after.is_reached(failures, attempt.ended_at - first_failed_at)
        return replace(
            self,
            failures=failures,
            first_failed_at=first_failed_at,
            last_failed_at=attempt.ended_at,
            pause=PauseReason.FAILURES if is_over_limit else None,
            last_status=attempt.status,
            last_message=attempt.message,
        )
