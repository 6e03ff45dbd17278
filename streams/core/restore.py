"""The steps of a restore, its progress, and the reasons to refuse it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from streams.core.errors import FieldError, Invalid
from streams.core.times import format_time


class RestoreStep(StrEnum):
    """A step of a restore. They are done in this order."""

    RESTORE = "restore"
    REWIND = "rewind"
    RECONCILE = "reconcile"
    ERASE = "erase"
    RECORD = "record"


class MeterPosition(NamedTuple):
    """The next offset of `meter` in a partition of `session-events`, and the topic that it belongs to."""

    incarnation: str
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFacts:
    """Facts about a dump or a restored database.

    `check` is the text that the encryption keys must decrypt. `renewed_at` is the newest renewal of a lease: the dump
    is not older. Without a revision it is not a dump of this system.
    """

    revision: str | None
    check: str | None = None
    positions: Mapping[int, MeterPosition] = field(default_factory=dict)
    renewed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsFacts:
    """Facts about the topics: the check text of `subscriptions`, and the id and ends of `session-events`."""

    check: str | None
    incarnation: str
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreProgress:
    """The progress of a restore: its last finished step, and the counts of its steps."""

    dump: str
    since: datetime
    started_at: datetime
    last_step: RestoreStep
    counts: Mapping[str, int] = field(default_factory=dict)

    def after(self, step: RestoreStep, **counts: int) -> "RestoreProgress":
        """The progress after one more step."""
        return replace(self, last_step=step, counts={**self.counts, **counts})


def damaged_dump(path: Path, problem: str) -> Invalid:
    """The error of a dump that cannot be read to its end."""
    return Invalid(FieldError("--dump", f"{path} is damaged, or not complete ({problem}): take another one"))


def remaining_steps(progress: RestoreProgress | None) -> Sequence[RestoreStep]:
    """The steps that are not done, in order."""
    steps = list(RestoreStep)
    return steps[steps.index(progress.last_step) + 1 :] if progress else steps


def is_of_deployment(dump: DumpFacts, topics: TopicsFacts) -> bool:
    """Whether a dump belongs to these topics: they share the check text, or `meter` has read this very topic.

    The check text changes with the encryption keys, and the topic's identity when the topic is made again.
    """
    has_same_check = dump.check is not None and dump.check == topics.check
    return has_same_check or any(position.incarnation == topics.incarnation for position in dump.positions.values())


def conflict(dump: DumpFacts, topics: TopicsFacts) -> str | None:
    """Why a dump does not fit the topics, and what to do. None if it fits."""
    if not is_of_deployment(dump, topics):
        return (
            "the dump is of another deployment: these topics know neither its check text nor the position of `meter`. "
            "Take a dump of this deployment, or set KAFKA_BOOTSTRAP_SERVERS and SCORM_WEBHOOKS_TOPIC_PREFIX to the "
            "topics of the dump"
        )
    for number, position in sorted(dump.positions.items()):
        end = topics.ends.get(number, 0)
        if position.incarnation == topics.incarnation and position.next_offset > end:
            return (
                f"the topics are older than the dump: partition {number} of session-events ends at {end}, and the dump "
                f"has counted up to {position.next_offset}. Take an older dump, or restore Kafka's newer data first"
            )
    return None


def since_problem(dump: DumpFacts, since: datetime) -> str | None:
    """Why records are missing that were appended before `since`. None if none are."""
    if dump.renewed_at is None or since <= dump.renewed_at:
        return None
    return f"must not be after the dump: use {format_time(dump.renewed_at.replace(microsecond=0))} or an earlier time"


def retention_note(since: datetime, now: datetime, retention: timedelta) -> str | None:
    """Which records the topics no longer have. None if they have everything since that time."""
    oldest = now - retention
    if since >= oldest:
        return None
    return (
        f"the topics keep {retention.days} days: what was recorded between {format_time(since)} and "
        f"{format_time(oldest.replace(microsecond=0))} is lost"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreScope:
    """The objects of a restore, as texts for people. Without `dump` the database is restored already."""

    dump: str | None
    database: str
    revision: str
    group: str
    topics: Sequence[str]
    compacted_topics: Sequence[str]
    since: datetime
    records: int

    def describe(self, step: RestoreStep) -> str:
        """A description of a step."""
        match step:
            case RestoreStep.RESTORE:
                source = f"replace the database by {self.dump}" if self.dump else "use the database as it is restored"
                return f"{source}; upgrade the tables of {self.database} to schema {self.revision}"
            case RestoreStep.REWIND:
                return (
                    f"let the group {self.group} read {', '.join(self.topics)} again since {format_time(self.since)}: "
                    f"{self.records} records"
                )
            case RestoreStep.RECONCILE:
                return (
                    f"make {' and '.join(self.compacted_topics)} match the database: webhooks made after the dump "
                    "leave the topic, webhooks deleted after it stay deleted, and health begins again"
                )
            case RestoreStep.ERASE:
                return "erase the learners again who were erased after the dump"
            case RestoreStep.RECORD:
                return "run `record` until it has read every record that is there now"
