"""Convert times between UTC and the zone of a page, even at the edges of the calendar."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# The format in which people and logs write a time; a browser's field for times has the order of its own language.
FIELD_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def parse_zone(name: str) -> ZoneInfo | None:
    """The time zone of this name, such as `Europe/Berlin`; None for anything else."""
    try:
        return ZoneInfo(name) if name else None
    # The name becomes a path: it may name a folder (`Europe`), or be longer than a path may be.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def to_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    """The time in the zone; in UTC if the zone's time would be before the year 1 or after 9999."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment.astimezone(UTC)


def clock_text(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """A time as `14:02` today, `3 May 14:02` before."""
    local, today = to_zone(moment, zone), to_zone(now, zone)
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local.day} {local:%b}{'' if local.year == today.year else f' {local.year}'} {local:%H:%M}"


def from_zone(text: str, zone: ZoneInfo) -> datetime | None:
    """The UTC time of a form's field, which has no zone of its own; None for anything else."""
    try:
        local = datetime.fromisoformat(text)
        return local.replace(tzinfo=zone).astimezone(UTC) if local.tzinfo is None else None
    except (ValueError, OverflowError):
        return None
