"""What tests write into the database of `up`: a day of attempts for the charts, and a minute that passes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, update

from streams.adapters.sql.tables.accounts import mails
from streams.adapters.sql.tables.deliveries import hourly_attempts, response_times
from streams.core.deliveries.outcome import OutcomeKind

# Attempts of each hour, the oldest first: a night, a morning, a lunch, an afternoon.
DELIVERED = (9, 5, 3, 2, 2, 4, 11, 28, 64, 118, 131, 122, 74, 96, 127, 119, 101, 68, 41, 30, 24, 19, 12)
FAILED = {8: 3, 9: 14, 10: 5, 15: 2}
# How many of 100 responses come within each bound, in milliseconds.
SHARES = {10: 20, 25: 45, 50: 25, 100: 8, 250: 2}
# At these hours of the day its server is slow.
SLOW = {9, 10, 14}


def add_earlier_traffic(folder: Path, webhook_id: str) -> None:
    """Write the sums of the 23 hours before this one into the database of `up`, as its stages do."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    sums, times = [], []
    for place, delivered in enumerate(DELIVERED):
        hour = this_hour - timedelta(hours=len(DELIVERED) - place)
        for outcome, count in ((OutcomeKind.DELIVERED, delivered), (OutcomeKind.SERVER_ERROR, FAILED.get(place, 0))):
            if count:
                sums.append(_sum(webhook_id, hour, outcome, count))
        for bound, count in _spread(delivered, slow=place in SLOW).items():
            times.append({"webhook_id": webhook_id, "hour": hour, "up_to_ms": bound, "attempts": count})
    with _database(folder) as connection:
        connection.execute(insert(hourly_attempts), sums)
        connection.execute(insert(response_times), times)


def let_a_minute_pass(folder: Path) -> None:
    """Make mails about pauses due, as a minute does: they wait for further pauses of their account."""
    with _database(folder) as connection:
        connection.execute(update(mails).where(mails.c.due_at.is_not(None)).values(due_at=mails.c.created_at))


@contextmanager
def _database(folder: Path) -> Iterator[Connection]:
    """The database of `up`."""
    engine = create_engine(f"sqlite:///{folder}/.scorm-webhooks/scorm-webhooks.db", connect_args={"timeout": 30})
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _sum(webhook_id: str, hour: datetime, outcome: OutcomeKind, count: int) -> Mapping[str, object]:
    return {
        "webhook_id": webhook_id,
        "hour": hour,
        "outcome": outcome,
        "attempts": count,
        "milliseconds": 30.0 * count,
        "slowest_ms": 200.0,
        "last_at": hour + timedelta(minutes=59),
    }


def _spread(count: int, slow: bool) -> Mapping[int, int]:
    """Attempts by the bound of their response time."""
    bounds = {bound: round(count * share / 100) for bound, share in SHARES.items()}
    bounds[250 if slow else 25] += max(1, round(count / 9))
    return {bound: number for bound, number in bounds.items() if number}
