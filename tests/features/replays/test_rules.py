"""Replay requests, and the progress of jobs and backfills, as properties and tables."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.backfill import Backfill, OffsetRange, Period, remaining_ranges
from streams.core.deliveries.delivery import REPLAYABLE, State
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.errors import Invalid
from streams.core.queues.rate import seconds_to_send
from streams.features.replays.rules import DEFAULT_STATES, ReplayRequest

HOUR = timedelta(hours=1)
RANGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 50), st.integers(0, 50)), unique_by=lambda one: one[0], max_size=5
).map(lambda found: tuple(OffsetRange(*one) for one in found))


def request(**changes: Any) -> ReplayRequest:
    return replace(ReplayRequest("wh_crm", NOON - HOUR), **changes)


def job(**changes: Any) -> Job:
    return replace(Job("job_1", "acme", JobKind.REPLAY, DeliveryFilter("acme"), NOON), **changes)


def test_lost_data_is_what_was_delivered_or_given_up() -> None:
    wanted = request().to_filter("acme", NOON)
    assert wanted.states == DEFAULT_STATES == (State.DELIVERED, State.DEAD)
    assert (wanted.account_id, wanted.webhook_id, wanted.since) == ("acme", "wh_crm", NOON - HOUR)
    assert wanted.until == wanted.changed_until == NOON
    assert wanted.event_types is None
    assert wanted.without_tests


@given(until=st.none() | st.datetimes(datetime(2026, 4, 10, 11, 1), datetime(2030, 1, 1)))
def test_a_replay_never_reaches_into_the_future(until: datetime | None) -> None:
    aware = until.replace(tzinfo=NOON.tzinfo) if until else None
    wanted = request(until=aware).to_filter("acme", NOON)
    assert wanted.until is not None
    assert wanted.until <= NOON


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"since": NOON}, ["since"]),
        ({"until": NOON - HOUR}, ["until"]),
        ({"event_types": ("nonsense",)}, ["eventTypes"]),
        ({"states": ()}, ["states"]),
        ({"since": NOON, "until": NOON - HOUR, "states": (State.HELD,)}, ["since", "until", "states"]),
        *(({"states": (state,)}, ["states"]) for state in State if state not in REPLAYABLE),
    ],
)
def test_every_wrong_field_is_named(changes: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        request(**changes).to_filter("acme", NOON)
    assert [error.field for error in refused.value.errors] == fields


def test_a_backfill_needs_no_state() -> None:
    assert request(states=(), backfill=True).to_filter("acme", NOON).states == ()


@given(ranges=RANGES, steps=st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 60)), max_size=5))
def test_a_backfill_only_goes_forward_and_ends(ranges: tuple[OffsetRange, ...], steps: list[dict[int, int]]) -> None:
    progress = Backfill().begin(Period(ranges, NOON))
    assert progress.read == 0
    for positions in steps:
        after = progress.after_reading(positions)
        assert progress.read <= after.read <= after.records == progress.records
        progress = after
    progress = progress.after_reading({one.partition: one.end for one in ranges})
    assert progress.is_fully_read
    assert progress.read == progress.records


@given(ranges=RANGES)
def test_positions_of_other_partitions_change_nothing(ranges: tuple[OffsetRange, ...]) -> None:
    left = remaining_ranges(ranges, {})
    assert all(one.start < one.end for one in left)
    assert remaining_ranges(left, {99: 1000}) == left


def test_a_job_reads_history_until_its_backfill_is_read() -> None:
    waiting = job(backfill=Backfill()).with_backfill_due()
    assert (waiting.status, waiting.is_backfilling, waiting.has_pending_backfill) == (JobStatus.RUNNING, True, False)
    assert not replace(waiting, finished_at=NOON).is_backfilling
    assert not job(backfill=Backfill(is_due=True, ranges=())).is_backfilling


def test_late_deliveries_add_to_the_total() -> None:
    advanced = job(total=2).with_progress(3, NOON)
    assert (advanced.total, advanced.done, advanced.reached) == (3, 3, NOON)
    ended = advanced.to_finished(NOON, 2)
    assert (ended.total, ended.failed, ended.unmatched) == (5, 2, 0)
    assert job(total=5, done=3).to_finished(NOON, 1).unmatched == 1
    assert job(total=5, done=3).unmatched == 0


def test_only_a_replay_waits_until_its_period_is_settled() -> None:
    until = DeliveryFilter(until=NOON)
    assert job(filter=until).is_settled(NOON + timedelta(seconds=15))
    assert not job(filter=until).is_settled(NOON + timedelta(seconds=14))
    assert job(filter=until, kind=JobKind.RETRY).is_settled(NOON)
    assert job(filter=DeliveryFilter()).is_settled(NOON)


@given(total=st.integers(0, 100), done=st.integers(0, 200), failed=st.integers(0, 100), finished=st.booleans())
def test_progress_is_never_more_than_all(total: int, done: int, failed: int, finished: bool) -> None:
    part, whole = job(total=total, done=done, failed=failed, finished_at=NOON if finished else None).progress
    assert 0 <= part <= whole
    assert whole >= 1
    assert not finished or part == whole


def test_a_cancelled_job_says_so() -> None:
    assert job(finished_at=NOON, cancelled=True).status is JobStatus.CANCELLED
    assert job(finished_at=NOON).status is JobStatus.FINISHED
    assert job().status is JobStatus.RUNNING


@pytest.mark.parametrize(
    ("per_second", "concurrency", "response_ms", "seconds"),
    [(1100, 32, 100.0, 3.75), (10, 32, 100.0, 120.0), (1100, 1, 1000.0, 1200.0), (600, 32, 0.0, 2.0)],
)
def test_the_time_to_send_follows_the_slowest_part(
    per_second: int, concurrency: int, response_ms: float, seconds: float
) -> None:
    assert seconds_to_send(1200, per_second, concurrency, response_ms) == seconds
