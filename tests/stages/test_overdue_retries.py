"""Overdue retries are sent again only while `deliver` and `record` keep up."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from builders import NOON
from fakes import FakeClock, FakeTelemetry, postponed_work
from streams.core.deliveries.backlog import GroupOffsets
from streams.ports.kafka import Partition
from streams.stages.overdue_retries import MIN_OVERDUE, Offsets, is_keeping_up, resend_overdue
from streams.topics import STAGE_TOPICS

LONGEST = timedelta(hours=6)


def offsets(record: int, deliver: int, end: int = 10) -> Offsets:
    committed = {"record": record, "deliver": deliver}
    return {
        group: {Partition(topic, 0): GroupOffsets(offset, end) for topic in STAGE_TOPICS[group]}
        for group, offset in committed.items()
    }


def test_a_group_keeps_up_that_committed_what_was_there_before() -> None:
    before = offsets(record=5, deliver=5, end=10)
    assert is_keeping_up(before, offsets(record=10, deliver=12, end=20), "record")
    assert not is_keeping_up(before, offsets(record=9, deliver=12, end=20), "record")
    assert not is_keeping_up({}, before, "record")
    assert not is_keeping_up(before, {"record": {}}, "record")


@pytest.mark.parametrize("group", ["record", "deliver"])
def test_a_topic_that_no_broker_lists_may_have_records(group: str) -> None:
    # A permission to describe it is missing, or the broker does not know it yet.
    complete = offsets(record=10, deliver=10)
    for topic in STAGE_TOPICS[group]:
        partial = {group: {at: of for at, of in complete[group].items() if at.topic != topic}}
        assert not is_keeping_up(partial, partial, group)
    assert not is_keeping_up({group: {}}, {group: {}}, group)
    assert is_keeping_up(complete, complete, group)


@dataclass
class Lags:
    """A `GroupLags` with the looks of a test; cancelled after the last."""

    looks: list[Offsets]

    async def offsets(self) -> Mapping[str, Mapping[Partition, GroupOffsets]]:
        if not self.looks:
            raise asyncio.CancelledError
        return self.looks.pop(0)


@dataclass
class Overdue:
    """An `OverdueRetries` that has three overdue ones."""

    asked: list[datetime] = field(default_factory=list)

    async def resend(self, due_before: datetime, limit: int) -> int:
        self.asked.append(due_before)
        return 3


async def asked(looks: list[Offsets], longest_wait: timedelta, telemetry: FakeTelemetry) -> list[datetime]:
    overdue = Overdue()
    with suppress(asyncio.CancelledError):
        work = postponed_work(telemetry)
        lags, clock = Lags(looks), FakeClock()
        await resend_overdue(overdue, lags, longest_wait, clock, telemetry, work, check_interval_seconds=0)
    return overdue.asked


async def test_overdue_retries_are_sent_again_and_logged() -> None:
    telemetry = FakeTelemetry()
    assert await asked([offsets(10, 10), offsets(10, 10)], LONGEST, telemetry) == [NOON - LONGEST]
    assert telemetry.logged_count("overdue_retries_sent_again") == 1


async def test_a_short_schedule_waits_an_hour() -> None:
    found = await asked([offsets(10, 10), offsets(10, 10)], timedelta(seconds=3), FakeTelemetry())
    assert found == [NOON - MIN_OVERDUE]


@pytest.mark.parametrize("late", [offsets(record=9, deliver=10), offsets(record=10, deliver=9)])
async def test_nothing_is_sent_again_while_a_stage_is_behind(late: Offsets) -> None:
    assert await asked([offsets(9, 9), late], LONGEST, FakeTelemetry()) == []
