"""Numbers about a webhook: its attempts by the hour, and its run of failures."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
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
class FailureStreak:
    """A webhook's run of failures as it stands; all empty while its last counted attempt succeeded."""

    failures: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_status: int | None = None
    last_message: str | None = None


def by_hour(attempts: Iterable[Attempt]) -> list[Hour]:
    """What these attempts add up to, in the order of their keys; a test counts for nothing (R5)."""
    alike: defaultdict[tuple[str, datetime, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.trigger is not Trigger.TEST:
            hour = attempt.started_at.replace(minute=0, second=0, microsecond=0)
            alike[attempt.webhook_id, hour, str(attempt.kind)].append(attempt)
    return [_hour(key, made) for key, made in sorted(alike.items())]


def _hour(key: tuple[str, datetime, str], made: Sequence[Attempt]) -> Hour:
    took_ms = [attempt.milliseconds for attempt in made]
    return Hour(*key, len(made), sum(took_ms), max(took_ms), max(attempt.ended_at for attempt in made))
