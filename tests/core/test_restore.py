"""What refuses a restore, where a second run goes on, and what the plan says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON
from streams.core.restore import (
    DumpFacts,
    MeterPosition,
    RestoreProgress,
    RestoreScope,
    RestoreStep,
    TopicsFacts,
    conflict,
    remaining_steps,
    retention_note,
    since_problem,
)

TOPICS = TopicsFacts(check="of this database", incarnation="cluster/topic", ends={0: 100, 1: 50})
DUMP = DumpFacts(
    revision="0001",
    check="of this database",
    positions={0: MeterPosition("cluster/topic", 90)},
    renewed_at=NOON,
)
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"check": "encrypted by the keys of that time"},
        {"positions": {}},
        {"positions": {0: MeterPosition("cluster/earlier-topic", 9000)}},
    ],
)
def test_a_dump_of_this_deployment_fits(changes: dict[str, object]) -> None:
    assert conflict(replace(DUMP, **changes), TOPICS) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("check", ["of another", None])
def test_a_dump_of_another_deployment_is_refused(check: str | None) -> None:
    other = replace(DUMP, check=check, positions={0: MeterPosition("cluster/other", 9)})
    assert "the dump is of another deployment" in str(conflict(other, TOPICS))


def test_a_dump_that_shows_nothing_fits_no_topics() -> None:
    untouched = replace(TOPICS, check=None)
    assert "of another deployment" in str(conflict(replace(DUMP, check=None, positions={}), untouched))


@pytest.mark.parametrize("number", [1, 7])
def test_a_dump_that_is_newer_than_the_topics_is_refused(number: int) -> None:
    ahead = replace(DUMP, positions={number: MeterPosition("cluster/topic", 51)})
    assert "the topics are older than the dump" in str(conflict(ahead, TOPICS))


def test_records_are_read_since_a_time_before_the_dump() -> None:
    assert since_problem(DUMP, NOON) is None
    assert since_problem(replace(DUMP, renewed_at=None), NOON + WEEK) is None
    problem = since_problem(DUMP, NOON + timedelta(seconds=1))
    assert problem == "must not be after the dump: use 2026-04-10T12:00:00Z or an earlier time"


def test_the_plan_says_what_the_topics_no_longer_have() -> None:
    assert retention_note(NOON, NOON + WEEK, WEEK) is None
    note = retention_note(NOON, NOON + WEEK + timedelta(days=1), WEEK)
    assert note is not None
    assert "the topics keep 7 days" in note


def test_a_second_run_goes_on_after_the_last_step() -> None:
    begun = RestoreProgress(dump="d", since=NOON, started_at=NOON, last_step=RestoreStep.RESTORE)
    assert remaining_steps(None) == list(RestoreStep)
    after_two = begun.after(RestoreStep.REWIND, records=7)
    assert remaining_steps(after_two) == [RestoreStep.RECONCILE, RestoreStep.ERASE, RestoreStep.RECORD]
    done = after_two.after(RestoreStep.RECORD, webhooks_deleted=1)
    assert remaining_steps(done) == []
    assert done.counts == {"records": 7, "webhooks_deleted": 1}


def test_the_plan_names_this_deployment() -> None:
    scope = RestoreScope(
        dump="webhooks.dump",
        database="postgresql://db/webhooks",
        revision="0001",
        group="w.record",
        topics=["w.deliveries"],
        compacted_topics=["w.subscriptions", "w.erasures"],
        since=NOON,
        records=12,
    )
    texts = {step: scope.describe(step) for step in RestoreStep}
    assert texts[RestoreStep.RESTORE].startswith("replace the database by webhooks.dump; upgrade the tables")
    assert "w.record read w.deliveries again since 2026-04-10T12:00:00Z: 12 records" in texts[RestoreStep.REWIND]
    assert "w.subscriptions and w.erasures" in texts[RestoreStep.RECONCILE]
    restored = replace(scope, dump=None)
    assert restored.describe(RestoreStep.RESTORE).startswith("use the database as it is restored; upgrade")
