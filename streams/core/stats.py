"""Numbers about a webhook: its attempts by the hour, and its run of failures."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from streams.core.attempt import Attempt
from streams.core.delivery import Trigger


@dataclass(frozen=True, slots=True)
class Hour:
    """The attempts of one webhook that began within an hour and had the same outcome; times in milliseconds."""

    webhook_id: str
    hour: datetime
    outcome: str
    attempts: int
    milliseconds: float
    slowest_ms: float
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Failing:
    """A webhook's run of failures as it stands; all empty while its last counted attempt succeeded."""

    failures: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_status: int | None = None
    last_words: str | None = None


def by_hour(attempts: Iterable[Attempt]) -> list[Hour]:
    """What these attempts add up to, in the order of their keys; a test counts for nothing (R5)."""
    sums: dict[tuple[str, datetime, str], Hour] = {}
    for attempt in attempts:
        if attempt.trigger is Trigger.TEST:
            continue
        key = (attempt.webhook_id, attempt.started_at.replace(minute=0, second=0, microsecond=0), str(attempt.kind))
        took_ms = (attempt.ended_at - attempt.started_at).total_seconds() * 1000
        known = sums.get(key) or Hour(*key, 0, 0.0, 0.0, attempt.ended_at)
        sums[key] = Hour(
            *key,
            attempts=known.attempts + 1,
            milliseconds=known.milliseconds + took_ms,
            slowest_ms=max(known.slowest_ms, took_ms),
            last_at=max(known.last_at, attempt.ended_at),
        )
    return [sums[key] for key in sorted(sums)]
