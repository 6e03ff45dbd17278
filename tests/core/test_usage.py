"""Launches are counted by month, and each threshold is crossed by one launch."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, event
from streams.core.accounts.usage import (
    MONTH_OPEN_DAYS,
    Launch,
    UsageKey,
    UsageNotice,
    crossed_thresholds,
    launches_by_key,
    launches_needed,
    launches_of,
    month_of,
    reached_thresholds,
    threshold_event,
)
from streams.core.events.event import check_event


def launched(number: int, at: datetime = NOON) -> Launch:
    return Launch("acme", f"evt_{number}", at + timedelta(seconds=number))


def test_a_month_is_that_of_utc() -> None:
    late = datetime.fromisoformat("2026-05-01T01:30:00+02:00")
    assert month_of(late) == "2026-04"
    assert month_of(datetime.min.replace(tzinfo=UTC)) == "0001-01"
    assert month_of(datetime.max.replace(tzinfo=UTC)) == "9999-12"


def test_only_launches_count_and_not_for_ever() -> None:
    data = {"sessionId": "s", "packageId": "p", "learnerId": "l", "dispatchId": "d"}
    now = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(days=MONTH_OPEN_DAYS)
    known = event(type="session.launched", data=data)
    batch = launches_of([(known, NOON), (event(), NOON)], now - timedelta(seconds=1))
    assert [(one.event_id, one.month, one.package_id, one.dispatch_id) for one in batch.launches] == [
        (known.id, "2026-04", "p", "d")
    ]
    late = launches_of([(known, now), (event(), now)], now)
    assert [(one.event_id, one.month) for one in late.late_launches] == [(known.id, month_of(now))]
    assert not late.launches


@pytest.mark.parametrize("at", [datetime.min, datetime(999, 12, 31), datetime.max])
def test_a_launch_of_any_year_is_judged(at: datetime) -> None:
    batch = launches_of([(event(type="session.launched", occurred_at=at.replace(tzinfo=UTC)), NOON)], NOON)
    assert (len(batch.launches), len(batch.late_launches)) == ((1, 0) if at == datetime.max else (0, 1))


def test_launches_are_counted_by_package_and_dispatch() -> None:
    one = Launch("acme", "evt_1", NOON, "p", None)
    assert launches_by_key([one, one._replace(event_id="evt_2"), one._replace(dispatch_id="d")]) == {
        UsageKey("acme", "2026-04", "p", ""): 2,
        UsageKey("acme", "2026-04", "p", "d"): 1,
    }


@pytest.mark.parametrize(("percent", "limit", "needed"), [(80, 1000, 800), (80, 1, 1), (80, 7, 6), (100, 7, 7)])
def test_a_threshold_is_rounded_up(percent: int, limit: int, needed: int) -> None:
    assert launches_needed(percent, limit) == needed


@given(st.integers(1, 40), st.lists(st.integers(1, 12), max_size=10))
def test_each_threshold_is_crossed_by_its_launch(limit: int, sizes: list[int]) -> None:
    made = [launched(number) for number in range(sum(sizes))]
    notices: list[UsageNotice] = []
    before = 0
    for size in sizes:
        notices += crossed_thresholds(limit, before, made[before : before + size])
        before += size
    first = {notice.percent: notice for notice in reversed(notices)}
    for percent in (80, 100):
        needed = launches_needed(percent, limit)
        if needed > len(made):
            assert percent not in first
        else:
            assert (first[percent].at, first[percent].launches) == (made[needed - 1].at, needed)


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_there_is_no_threshold(limit: int | None) -> None:
    assert crossed_thresholds(limit, 0, [launched(1)]) == ()
    assert reached_thresholds("acme", "2026-04", limit, 10, NOON) == ()


def test_a_lowered_limit_is_reached_by_earlier_launches() -> None:
    notices = reached_thresholds("acme", "2026-04", 10, 9, NOON)
    assert [(one.percent, one.launches, one.at) for one in notices] == [(80, 9, NOON)]


def test_the_event_of_a_notice_is_valid_and_has_its_own_id() -> None:
    notice = UsageNotice("acme", "2026-04", 80, 800, 1000, NOON)
    made = threshold_event(notice)
    assert check_event(made, NOON) == made
    assert made.data == {"period": "2026-04", "launches": 800, "limit": 1000, "thresholdPercent": 80}
    assert threshold_event(notice).id == made.id != threshold_event(UsageNotice("acme", "2026-04", 100, 1, 1, NOON)).id


def test_each_account_month_and_threshold_has_its_own_event() -> None:
    notices = [
        UsageNotice(account_id, month, percent, 10, 10, NOON)
        for account_id in ("acme", "other")
        for month in ("2026-04", "2026-05")
        for percent in (80, 100)
    ]
    assert len({threshold_event(notice).id for notice in notices}) == len(notices)


def test_a_new_limit_reports_what_is_reached_exactly() -> None:
    assert [notice.percent for notice in reached_thresholds("acme", "2026-04", 10, 7, NOON)] == []
    [notice] = reached_thresholds("acme", "2026-04", 10, 8, NOON)
    assert notice == UsageNotice("acme", "2026-04", 80, 8, 10, NOON)


def test_a_threshold_is_crossed_by_the_launch_that_reaches_it() -> None:
    launches = [launched(number) for number in range(3)]
    [notice] = crossed_thresholds(10, 6, launches, [80])
    assert (notice.launches, notice.at) == (8, launches[1].at)
