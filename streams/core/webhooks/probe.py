"""Probes: while a webhook is paused automatically, one of its held events is tried now and then."""

from datetime import datetime, timedelta

# Times since the pause; after the last one, a probe a day.
PROBE_TIMES = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))


def next_probe_at(paused_at: datetime, now: datetime) -> datetime:
    """The first time of a probe after `now`."""
    elapsed = now - paused_at
    for time in PROBE_TIMES:
        if elapsed < time:
            return paused_at + time
    return paused_at + (elapsed // timedelta(days=1) + 1) * timedelta(days=1)
