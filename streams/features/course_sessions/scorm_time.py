"""Lengths of time as SCORM writes them."""

import re
from decimal import ROUND_DOWN, Decimal

from streams.core.limits import MAX_DURATION_CHARACTERS

# A timespan of SCORM 1.2 (RTE 1.2 §3.4.1, CMITimespan): HHHH:MM:SS.SS.
_TIMESPAN = re.compile(r"(\d{1,6}):(\d{1,2}):(\d{1,2}(?:\.\d{1,6})?)", re.ASCII)
# A timeinterval of SCORM 2004 (RTE 2004 §4.1.1.7): ISO 8601 without weeks.
_NUMBER = r"(\d{1,12}(?:\.\d{1,6})?)"
_INTERVAL = re.compile(
    rf"P(?=.)(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}D)?"
    rf"(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_DAY_SECONDS = 86_400
# A year and a month have no fixed length: SCORM's players count 365 and 30 days.
_INTERVAL_SECONDS = (365 * _DAY_SECONDS, 30 * _DAY_SECONDS, _DAY_SECONDS, 3600, 60, 1)
# About 30 years. A greater length is an error of the course.
MAX_SECONDS = Decimal(10**9)


def parse_length(text: str) -> Decimal | None:
    """The seconds of a timespan or a timeinterval; None if it is neither, or longer than 30 years."""
    if len(text) > MAX_DURATION_CHARACTERS:
        return None
    if match := _TIMESPAN.fullmatch(text):
        hours, minutes, seconds = map(Decimal, match.groups())
        return to_seconds(hours * 3600 + minutes * 60 + seconds)
    if match := _INTERVAL.fullmatch(text):
        parts = zip(match.groups(), _INTERVAL_SECONDS, strict=True)
        return to_seconds(sum((Decimal(part) * size for part, size in parts if part), Decimal()))
    return None


def to_seconds(value: Decimal) -> Decimal | None:
    """The value if it can be a length of time, to the microsecond; otherwise None."""
    return round(value, 6) if value.is_finite() and 0 <= value <= MAX_SECONDS else None


def format_timespan(seconds: Decimal) -> str:
    """The timespan of SCORM 1.2, as `0001:02:03.50`."""
    total_minutes, remainder = divmod(seconds, 60)
    hours, minutes = divmod(int(total_minutes), 60)
    return f"{hours:04}:{minutes:02}:{remainder.quantize(Decimal('0.01'), ROUND_DOWN):05}"


def format_length(seconds: Decimal) -> str:
    """The ISO 8601 duration in hours, minutes and seconds, as `PT1H2M3.5S`."""
    total_minutes, remainder = divmod(seconds, 60)
    hours, minutes = divmod(int(total_minutes), 60)
    # Without an exponent and without trailing zeros.
    second = f"{remainder:f}".rstrip("0").rstrip(".") if "." in f"{remainder:f}" else f"{remainder:f}"
    parts = [f"{hours}H"] * bool(hours) + [f"{minutes}M"] * bool(minutes)
    if remainder or not parts:
        parts.append(f"{second or '0'}S")
    return "PT" + "".join(parts)
