"""Probes: while a webhook is paused automatically, one of its held events is tried now and then."""

from datetime import datetime, timedelta

# Times since the pause; after the last one, a probe a day.
PROBE_TIMES = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))


def probe_number(paused_at: datetime, now: datetime) -> int:
    """The number of probe times before this one, which is due; 0 at the first."""
    elapsed = now - paused_at
    passed = sum(elapsed >= time for time in PROBE_TIMES)
    return max(0, passed - 1 + max(0, elapsed // timedelta(days=1) - 1))


def next_probe_at(paused_at: datetime, now: datetime) -> datetime:
    """The next probe time after `now`."""
    elapsed = now - paused_at
    for time in PROBE_TIMES:
        if elapsed < time:
            return paused_at + time
    return paused_at + (elapsed // timedelta(days=1) + 1) * timedelta(days=1)
