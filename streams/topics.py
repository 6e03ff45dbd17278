"""Every topic, declared once: its name, key, partitions and policy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from streams.core.deliveries.schedule import Schedule, Tier
from streams.core.errors import Invalid, Misconfigured

SESSION_EVENTS = "session-events"
INVALID = "session-events.invalid"
SUBSCRIPTIONS = "subscriptions"
ERASURES = "erasures"
DELIVERIES = "deliveries"
# Deliveries beyond an account's share of `deliveries`: `deliver` reads them after all others.
BULK_DELIVERIES = "deliveries.bulk"
TEST_DELIVERIES = "deliveries.test"
HELD = "deliveries.held"
DEAD_LETTERS = "deliveries.dead-letter"
ATTEMPTS = "delivery-attempts"
# The topics that `record` reads.
RECORD_INPUTS = (DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES, HELD, DEAD_LETTERS, ATTEMPTS)
RETRY_PREFIX = "deliveries.retry."
# The group of `deliver`: the records of retry topics that it has not committed still wait.
DELIVER_GROUP = "deliver"
FAN_OUT_GROUP = "fan-out"
RECORD_GROUP = "record"
METER_GROUP = "meter"
# The topics that each stage must keep up with; records in retry topics are not due yet.
STAGE_TOPICS = {
    FAN_OUT_GROUP: (SESSION_EVENTS,),
    METER_GROUP: (SESSION_EVENTS,),
    DELIVER_GROUP: (DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES),
    RECORD_GROUP: RECORD_INPUTS,
}

# Kafka's default limit of a batch. `declare` sets it, so that a broker's own default does not matter.
RECORD_BYTES = 1_048_588
# An invalid record is stored whole, with its origin.
MAX_RECORD_BYTES = 2 * 1024 * 1024
# Limit of a batch of several records, before compression.
BATCH_BYTES = 1_000_000

RETENTION = timedelta(days=7)
LONG_RETENTION = timedelta(days=30)
# After this time no topic has an older record: an invalid record is stored for 30 days and replayed, and then its
# event, its delivery and its retry stay for 7 days each. Brokers delete whole segments, by default a week later.
ERASURE_RETENTION = 3 * LONG_RETENTION


@dataclass(frozen=True, slots=True)
class Topic:
    """The declaration of a topic; `key` describes the key of its records."""

    name: str
    key: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def retry_topic(tier: Tier) -> str:
    """The topic of a tier. Its wait is part of the name, so the records of a retired tier are still due in time."""
    return RETRY_PREFIX + tier.name


def tier_of(topic: str) -> Tier | None:
    """The tier of a retry topic, None for any other topic."""
    if not topic.startswith(RETRY_PREFIX):
        return None
    tier = Tier(topic.removeprefix(RETRY_PREFIX))
    try:
        _ = tier.wait
    except Invalid:
        return None
    return tier


@cache
def wait_of(topic: str) -> timedelta:
    """How long a record of a topic waits until it is due: the wait of its tier, or zero."""
    tier = tier_of(topic)
    return tier.wait if tier else timedelta()


def delivery_family(tiers: Iterable[Tier]) -> list[str]:
    """The topics keyed by webhook id. All have the same number of partitions, so a webhook's records stay together."""
    retries = [retry_topic(tier) for tier in tiers]
    return [DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES, *retries, HELD, DEAD_LETTERS, ATTEMPTS]


def declare(schedule: Schedule, event_partitions: int, delivery_partitions: int) -> list[Topic]:
    """All topics of a deployment with this schedule."""
    _check_retention(schedule)
    family = (
        Topic(
            name,
            "webhook id",
            delivery_partitions,
            _delete(LONG_RETENTION if name == DEAD_LETTERS else RETENTION),
        )
        for name in delivery_family(schedule.tiers)
    )
    return [
        Topic(
            SESSION_EVENTS,
            "session id, else package id, else account id",
            event_partitions,
            _delete(RETENTION),
        ),
        Topic(INVALID, "as read", min(3, event_partitions), _delete(LONG_RETENTION, MAX_RECORD_BYTES)),
        Topic(SUBSCRIPTIONS, "webhook id", 1, _compact(RETENTION)),
        Topic(ERASURES, "account id and hash of the learner", 1, _compact(RETENTION)),
        *family,
    ]


@dataclass(frozen=True, slots=True)
class TopicRetention:
    """How long a topic keeps a record. Brokers delete whole segments, so that a record may stay longer."""

    name: str
    retention: timedelta


def retentions(topics: Iterable[Topic], prefix: str = "") -> list[TopicRetention]:
    """The retention of each topic that deletes its records by age. Compacted ones do not, and have no payloads."""
    return [
        TopicRetention(prefix + topic.name, timedelta(milliseconds=int(topic.config["retention.ms"])))
        for topic in topics
        if "retention.ms" in topic.config
    ]


def _check_retention(schedule: Schedule) -> None:
    longest = schedule.tiers[-1]
    if longest.wait > RETENTION / 2:
        raise Misconfigured(
            f"SCORM_WEBHOOKS_RETRY_SCHEDULE: {longest.name} is longer than half of the topics' retention "
            f"({RETENTION.days} days); use waits of at most {RETENTION.days * 12}h"
        )


def _milliseconds(time: timedelta) -> str:
    return str(int(time.total_seconds() * 1000))


def _delete(retention: timedelta, record_bytes: int = RECORD_BYTES) -> Mapping[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": _milliseconds(retention),
        "retention.bytes": "-1",
        "max.message.bytes": str(record_bytes),
        "message.timestamp.type": "LogAppendTime",
    }


def _compact(tombstones: timedelta) -> Mapping[str, str]:
    return {
        "cleanup.policy": "compact",
        "delete.retention.ms": _milliseconds(tombstones),
        "max.message.bytes": str(RECORD_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
