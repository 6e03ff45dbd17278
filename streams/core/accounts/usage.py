"""Usage: launches by account and calendar month, and the thresholds of a plan that they cross."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from streams.core.errors import FieldError, Invalid
from streams.core.events.event import Event
from streams.core.ids import derived_id, is_id

LAUNCHED_TYPE = "session.launched"
THRESHOLD_TYPE = "usage.threshold"
THRESHOLD_PERCENTS = (80, 100)
# A month closes this long after its end, and the event ids of its launches are forgotten. Later launches are counted
# separately, because reading a topic again would bill them twice.
MONTH_OPEN_DAYS = 35
# Such as 2026-04.
MONTH_FORM = r"\d{4}-(0[1-9]|1[0-2])"


class Launch(NamedTuple):
    """A learner opened a course: the unit that is counted."""

    account_id: str
    event_id: str
    at: datetime
    package_id: str | None = None
    dispatch_id: str | None = None

    @property
    def month(self) -> str:
        return month_of(self.at)


class UsageKey(NamedTuple):
    """The key that launches are counted by; an empty id means that the launch had none."""

    account_id: str
    month: str
    package_id: str
    dispatch_id: str


@dataclass(frozen=True, slots=True)
class UsageNotice:
    """An account reached a percentage of its plan limit in a month. `at` is the time of the launch that crossed it."""

    account_id: str
    month: str
    percent: int
    launches: int
    limit: int
    at: datetime


class UsageMonth(NamedTuple):
    """The launches of an account in a month, and the launches of closed months that arrived in it."""

    month: str
    launches: int
    late_launches: int = 0


class UsageDetail(NamedTuple):
    """The launches of a month by package and dispatch; None where a launch had none."""

    package_id: str | None
    dispatch_id: str | None
    launches: int


class UsageCursor(NamedTuple):
    """The last package and dispatch of a page of details; an empty id means that a launch had none."""

    package_id: str
    dispatch_id: str

    def __str__(self) -> str:
        # No id has a dot.
        return f"{self.package_id}.{self.dispatch_id}"


def parse_usage_cursor(text: str) -> UsageCursor:
    """Parse the text of a cursor. Raises `Invalid`."""
    package_id, dot, dispatch_id = text.partition(".")
    if not dot or not all(part == "" or is_id(part) for part in (package_id, dispatch_id)):
        raise Invalid(FieldError("cursor", "must be the nextCursor of an earlier response"))
    return UsageCursor(package_id, dispatch_id)


class UnknownAccount(NamedTuple):
    """An account that does not exist: how many events named it, and when the first and the last came."""

    account_id: str
    events: int
    first_at: datetime
    last_at: datetime


class OutgoingEvent(NamedTuple):
    """An encoded event of this service that waits to be produced."""

    id: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class LaunchBatch:
    """The launches of a batch of records, in the order of their partitions.

    `late_launches` belong to closed months and have the time of their record.
    """

    launches: Sequence[Launch] = ()
    late_launches: Sequence[Launch] = ()


class NewLaunches(NamedTuple):
    """How many launches of a batch were not counted before."""

    launches: int
    late_launches: int


def is_month(text: str) -> bool:
    """Whether this is a month such as `2026-04`."""
    return re.fullmatch(MONTH_FORM, text, re.ASCII) is not None


def month_of(moment: datetime) -> str:
    """The calendar month of a time, in UTC: `2026-04`."""
    utc_moment = moment.astimezone(UTC)
    # `%Y` has no leading zeros.
    return f"{utc_moment.year:04}-{utc_moment.month:02}"


def oldest_open_month(now: datetime) -> str:
    """The oldest month that is not closed. Months compare as texts do."""
    return month_of(now - timedelta(days=MONTH_OPEN_DAYS))


def launches_of(events: Iterable[tuple[Event, datetime]], now: datetime) -> LaunchBatch:
    """The launches among these events, each of which comes with the time of its record."""
    launches: list[Launch] = []
    late_launches: list[Launch] = []
    open_since = oldest_open_month(now)
    for event, appended_at in events:
        if event.type != LAUNCHED_TYPE:
            continue
        launch = Launch(event.account_id, event.id, event.occurred_at, event.package_id, event.dispatch_id)
        if launch.month < open_since:
            late_launches.append(launch._replace(at=appended_at))
        else:
            launches.append(launch)
    return LaunchBatch(launches, late_launches)


def launches_by_key(launches: Iterable[Launch]) -> Mapping[UsageKey, int]:
    """The number of launches of each account, month, package and dispatch."""
    return Counter(
        UsageKey(launch.account_id, launch.month, launch.package_id or "", launch.dispatch_id or "")
        for launch in launches
    )


def launches_needed(percent: int, limit: int) -> int:
    """The number of launches that reaches a percentage of a limit."""
    return -(-limit * percent // 100)


def crossed_thresholds(
    limit: int | None, launches_before: int, launches: Sequence[Launch], percents: Iterable[int] = THRESHOLD_PERCENTS
) -> Sequence[UsageNotice]:
    """The thresholds that these launches of one account and month cross, after `launches_before` earlier ones.

    Thresholds that were crossed earlier, when the limit was higher, are included: the first launch reports them.
    """
    if not limit or not launches:
        return ()
    notices = []
    for percent in sorted(percents):
        threshold = launches_needed(percent, limit)
        if threshold <= launches_before + len(launches):
            crossing_launch = launches[max(0, threshold - launches_before - 1)]
            notices.append(
                UsageNotice(
                    crossing_launch.account_id,
                    crossing_launch.month,
                    percent,
                    max(threshold, launches_before + 1),
                    limit,
                    crossing_launch.at,
                )
            )
    return notices


def reached_thresholds(
    account_id: str,
    month: str,
    limit: int | None,
    launches: int,
    now: datetime,
    percents: Iterable[int] = THRESHOLD_PERCENTS,
) -> Sequence[UsageNotice]:
    """The thresholds that a month's launches have reached when a limit changes."""
    if not limit:
        return ()
    return [
        UsageNotice(account_id, month, percent, launches, limit, now)
        for percent in sorted(percents)
        if launches_needed(percent, limit) <= launches
    ]


def threshold_event(notice: UsageNotice) -> Event:
    """The event for a notice. Its id is computed, so every event of the same notice has the same id."""
    return Event(
        id=derived_id("evt", notice.account_id, notice.month, str(notice.percent)),
        type=THRESHOLD_TYPE,
        account_id=notice.account_id,
        occurred_at=notice.at,
        data={
            "period": notice.month,
            "launches": notice.launches,
            "limit": notice.limit,
            "thresholdPercent": notice.percent,
        },
    )
