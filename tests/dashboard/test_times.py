"""Times at the edges of the calendar are shown, and refused where they do not exist."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from api.shell.times import from_zone, parse_zone, to_zone

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
EAST, WEST = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Los_Angeles")


@pytest.mark.parametrize(("moment", "zone"), [(LAST, EAST), (FIRST, WEST)])
def test_a_time_outside_the_calendar_is_shown_in_utc(moment: datetime, zone: ZoneInfo) -> None:
    assert to_zone(moment, zone).isoformat() == moment.isoformat()


def test_a_time_is_shown_in_the_zone() -> None:
    assert to_zone(datetime(2026, 4, 10, 12, tzinfo=UTC), EAST).hour == 21


@pytest.mark.parametrize(
    ("text", "zone"), [("9999-12-31T23:59:59", WEST), ("0001-01-01T00:00:00", EAST), ("soon", EAST)]
)
def test_a_time_outside_the_calendar_is_no_time(text: str, zone: ZoneInfo) -> None:
    assert from_zone(text, zone) is None


def test_a_time_of_a_form_is_in_the_zone() -> None:
    assert from_zone("2026-04-10T21:00", EAST) == datetime(2026, 4, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../../etc/passwd",
        "Europe",
        "Europe/",
        "Europe/Nowhere",
        "tzdata.zi",
        "x" * 5000,
        "UTC\0",
        "\ud800",
        "\xff",
        "Europe/Berlin\n",
    ],
    ids=ascii,
)
def test_a_name_of_no_zone_is_none(name: str) -> None:
    assert parse_zone(name) is None


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin"])
def test_a_zone_has_its_name(name: str) -> None:
    assert parse_zone(name) == ZoneInfo(name)
