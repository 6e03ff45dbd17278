"""The Kafka permissions of each stage, declared once, for an authorizer's rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streams.topics import (
    ATTEMPTS,
    BULK_DELIVERIES,
    DEAD_LETTERS,
    DELIVER_GROUP,
    DELIVERIES,
    ERASURES,
    FAN_OUT_GROUP,
    HELD,
    INVALID,
    METER_GROUP,
    RECORD_GROUP,
    RECORD_INPUTS,
    RETRY_PREFIX,
    SESSION_EVENTS,
    STAGE_TOPICS,
    SUBSCRIPTIONS,
    TEST_DELIVERIES,
)


@dataclass(frozen=True, slots=True)
class Access:
    """The topics that a stage reads and writes, and its consumer group.

    With `can_read_lags` it may read every group's offsets.
    """

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    group: str | None = None
    can_read_lags: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `operation` on the topic or group `name`; with `is_prefix` on all whose names have this prefix.

    `user` is a stage, or `TOPICS_USER`.
    """

    user: str
    resource: str
    name: str
    is_prefix: bool
    operation: str


# `notify` does not use Kafka.
ACCESS = {
    "fan-out": Access((SESSION_EVENTS, SUBSCRIPTIONS), (DELIVERIES, BULK_DELIVERIES, HELD, INVALID), FAN_OUT_GROUP),
    "deliver": Access(
        (DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES, RETRY_PREFIX, SUBSCRIPTIONS, ERASURES),
        (DELIVERIES, RETRY_PREFIX, HELD, DEAD_LETTERS, ATTEMPTS, INVALID),
        DELIVER_GROUP,
    ),
    "record": Access(RECORD_INPUTS, (INVALID,), RECORD_GROUP),
    "publish": Access((SUBSCRIPTIONS, ERASURES), (SUBSCRIPTIONS, ERASURES, DELIVERIES, DEAD_LETTERS, SESSION_EVENTS)),
    "maintain": Access((SESSION_EVENTS,), can_read_lags=True),
    "meter": Access((SESSION_EVENTS,), (), METER_GROUP),
    "api": Access((SESSION_EVENTS,), (SESSION_EVENTS, TEST_DELIVERIES), can_read_lags=True),
}


# Runs `topics apply`: it creates topics, but does not read or write them.
TOPICS_USER = "topics"


def rules(prefix: str) -> Iterator[Rule]:
    """The rules of every stage, and of `topics apply`, with the deployment's prefix.

    Read, Write and Alter imply Describe; AlterConfigs implies DescribeConfigs.
    """
    for stage, access in ACCESS.items():
        for operation, names in (("Read", access.reads), ("Write", access.writes)):
            for name in names:
                yield Rule(stage, "Topic", prefix + name, name == RETRY_PREFIX, operation)
        if access.group:
            yield Rule(stage, "Group", prefix + access.group, False, "Read")
        if access.can_read_lags:
            for name in sorted({topic for topics in STAGE_TOPICS.values() for topic in topics}):
                yield Rule(stage, "Topic", prefix + name, False, "Describe")
            for group in STAGE_TOPICS:
                yield Rule(stage, "Group", prefix + group, False, "Describe")
    for name in (SESSION_EVENTS, INVALID, SUBSCRIPTIONS, ERASURES, *RECORD_INPUTS, RETRY_PREFIX):
        for operation in ("Create", "Alter", "AlterConfigs", *(["Delete"] if name == RETRY_PREFIX else [])):
            yield Rule(TOPICS_USER, "Topic", prefix + name, name == RETRY_PREFIX, operation)
    # For the number of records in a retired tier.
    yield Rule(TOPICS_USER, "Group", prefix + DELIVER_GROUP, False, "Describe")


def command(rule: Rule, principal: str) -> str:
    """The command of Kafka's own tool that creates a rule."""
    pattern = " --resource-pattern-type prefixed" if rule.is_prefix else ""
    return (
        f'kafka-acls.sh --bootstrap-server "$KAFKA_BOOTSTRAP_SERVERS" --add --allow-principal {principal} '
        f"--operation {rule.operation} --{rule.resource.lower()} {rule.name}{pattern}"
    )
