"""Times as texts, by RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
TIME_DESCRIPTION = "must be a time with a zone such as 2026-04-10T14:32:00Z"


def parse_time(text: Any) -> datetime | None:
    """Parse an RFC 3339 time (section 5.6) to an aware UTC time; None when it is anything else.

    Digits beyond microseconds are dropped. A leap second, 23:59:60 in UTC, becomes the second after it.
    """
    match = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    day, minute, second, fraction, offset = match.groups("")
    is_leap = second == "60"
    try:
        local_time = datetime.fromisoformat(
            f"{day}T{minute}:{'59' if is_leap else second}{fraction[:7]}{offset.upper()}"
        )
        moment = local_time.astimezone(UTC)
        if not is_leap:
            return moment
        ends_day = (moment.hour, moment.minute) == (23, 59)
        return moment.replace(microsecond=0) + timedelta(seconds=1) if ends_day else None
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """Format a time by RFC 3339 in UTC, with milliseconds only if there are any."""
    spec = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly: a float would round them."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
