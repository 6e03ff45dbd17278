"""A client with write access to the topics writes anything; other customers are not affected."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adversary.system import Account, AdversarySystem
from builders import attempt, dead_letter, delivery, webhook
from e2e.learning_platform import completed, launched
from e2e.system import until
from real.strange_producer import produce_strange_records
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER

pytestmark = pytest.mark.e2e

CODEC = AvroCodec()
READ_BY_STAGES = (
    "session-events",
    "deliveries",
    "deliveries.bulk",
    "deliveries.test",
    "deliveries.retry.1s",
    "delivery-attempts",
)
# A record of a newer release stops a partition of these topics.
PATIENT = (*READ_BY_STAGES[1:], "deliveries.held", "deliveries.dead-letter")
FAR_AHEAD = 2**62
DAY_AHEAD_MS = 86_400_000
VERSION = [(VERSION_HEADER, b"%d" % (2**63 - 1))]


@pytest.mark.parametrize("topic", READ_BY_STAGES)
@pytest.mark.parametrize(
    "value",
    [None, b"", b"junk", b"\xc3\x01", b"[" * 200_000, bytes(900_000)],
    ids=["no value", "empty", "junk", "cut short", "nested", "large"],
)
def test_a_foreign_record_is_stored_as_invalid(attacked: AdversarySystem, topic: str, value: bytes | None) -> None:
    before = attacked.count_invalid()
    attacked.write(topic, value)
    until(lambda: attacked.count_invalid() > before, 30, "it is stored as invalid")


def test_an_event_of_an_unknown_schema_is_stored_as_invalid(attacked: AdversarySystem) -> None:
    before = attacked.count_invalid()
    attacked.write("session-events", b"\xc3\x01" + bytes(8))
    until(lambda: attacked.count_invalid() > before, 30, "it is stored as invalid")


@pytest.mark.parametrize("topic", READ_BY_STAGES)
def test_a_record_that_is_small_only_when_compressed(attacked: AdversarySystem, topic: str) -> None:
    before = attacked.count_invalid()
    attacked.write(topic, b"junk" + bytes(2_000_000), compression="zstd")
    until(lambda: attacked.count_invalid() > before, 30, "its start is stored as invalid")


@pytest.mark.parametrize("topic", READ_BY_STAGES)
def test_unusual_headers_and_times(attacked: AdversarySystem, topic: str) -> None:
    before = attacked.count_invalid()
    count = produce_strange_records(attacked.bootstrap, attacked.prefix + topic)
    until(lambda: attacked.count_invalid() >= before + count, 30, "they are stored as invalid")


def test_an_event_with_a_very_long_duration(attacked: AdversarySystem) -> None:
    before = attacked.count_invalid()
    attacked.write("session-events", completed("evt_long", attacked.attacker.id, totalTime=f"PT{'1' * 999_700}S"))
    until(lambda: attacked.count_invalid() > before, 30, "it is stored as invalid")


@pytest.mark.parametrize("created_at", [datetime.max.replace(tzinfo=UTC), datetime.now(UTC) + timedelta(hours=25)])
def test_an_event_of_a_time_to_come_is_invalid(attacked: AdversarySystem, created_at: datetime) -> None:
    """A launch of the year 9999 would be delivered, and belong to no bill."""
    account = attacked.open_account("Ahead")
    before, event_id = attacked.count_invalid(), attacked.new_id("evt_ahead")
    attacked.write("session-events", launched(event_id, account.id, at=created_at))
    until(lambda: attacked.count_invalid() > before, 30, "it is stored as invalid")
    attacked.write("session-events", launched(attacked.new_id("evt_now"), account.id, at=datetime.now(UTC)))
    until(lambda: usage(attacked, account)[0]["launches"] == 1, 30, "the other launch is counted")
    assert len(usage(attacked, account)) == 1


def test_launches_of_a_closed_month_are_counted_apart(attacked: AdversarySystem) -> None:
    """They are delivered, so both sides see how many there are."""
    account, now = attacked.open_account("Late"), datetime.now(UTC)
    attacked.register(account, attacked.receiver.url("/late"))
    event_ids = {attacked.new_id("evt_late") for _ in range(3)}
    for event_id in (*event_ids, *event_ids):
        attacked.write("session-events", launched(event_id, account.id, at=now - timedelta(days=70)))
    in_time = attacked.new_id("evt_now")
    attacked.write("session-events", launched(in_time, account.id, at=now))
    attacked.receiver.wait_for("/late", {*event_ids, in_time})
    until(lambda: usage(attacked, account)[0]["launches"] == 1, 30, "the launch of this month is counted")
    until(lambda: usage(attacked, account)[0].get("lateLaunches") == 3, 30, "the late launches are counted")
    assert [month["launches"] for month in usage(attacked, account)] == [1]


def usage(attacked: AdversarySystem, account: Account) -> list[dict[str, Any]]:
    months: list[dict[str, Any]] = attacked.call("GET", "/v1/usage", key=account.key).json["months"]
    return months


@pytest.mark.parametrize("topic", ["deliveries", "deliveries.retry.1s"])
@pytest.mark.parametrize(
    "changes",
    [
        {"subscriptions_position": SubscriptionsPosition("unknown", FAR_AHEAD)},
        {"generation": 2**31 - 1},
        {"step": FAR_AHEAD},
        {"attempt": FAR_AHEAD},
        {"webhook_id": "wh_\r\nX: 1"},
        {"event_id": "evt\0"},
        {"body": bytes(900_000)},
        {"trace_parent": "\r\nX: 1"},
        {"account_id": "unknown"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_delivery_with_invalid_fields(attacked: AdversarySystem, topic: str, changes: dict[str, object]) -> None:
    attacked.write(topic, CODEC.encode(delivery(**changes)))


def test_a_delivery_with_a_position_beyond_the_end(attacked: AdversarySystem) -> None:
    incarnation = current_incarnation(attacked)
    attacked.write(
        "deliveries", CODEC.encode(delivery(subscriptions_position=SubscriptionsPosition(incarnation, FAR_AHEAD)))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"number": FAR_AHEAD},
        {"tier": "9999999d"},
        {"status": 10**9},
        {"message": "\0"},
        {"response_body": bytes(900_000)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_attempt_with_invalid_fields(attacked: AdversarySystem, changes: dict[str, object]) -> None:
    attacked.write("delivery-attempts", CODEC.encode(attempt(**changes)))


def test_a_dead_letter_of_an_unknown_account(attacked: AdversarySystem) -> None:
    attacked.write("deliveries.dead-letter", CODEC.encode(dead_letter()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SENTINEL_KEY, b"junk"),
        (SENTINEL_KEY, b"[" * 200_000),
        (SENTINEL_KEY, b'{"incarnation": null, "live": Infinity}'),
        (SENTINEL_KEY, json.dumps({"incarnation": "x", "live": -1}).encode()),
        (SENTINEL_KEY, None),
        ("wh_forged", b"junk"),
        ("wh_forged", CODEC.encode(webhook(id="wh_forged", version=2**63 - 1))),
        ("wh_forged", CODEC.encode(webhook(id="wh_forged", max_concurrency=0, version=1))),
        ("wh_forged", CODEC.encode(delivery())),
        ("wh_other", CODEC.encode(webhook(id="wh_forged"))),
        ("wh_forged", None),
        ("", None),
    ],
)
def test_an_invalid_record_on_subscriptions(attacked: AdversarySystem, key: str, value: bytes | None) -> None:
    attacked.write("subscriptions", value, key.encode(), headers=VERSION if value is None else [])


def test_a_forged_webhook_with_a_high_version_is_overwritten(attacked: AdversarySystem) -> None:
    """It is ignored and overwritten with the state in SQL: its owner still gets events."""
    mine = attacked.register(attacked.attacker, attacked.receiver.url("/mine"))
    attacked.write("subscriptions", None, mine.encode(), headers=VERSION)
    event_id = attacked.publish(attacked.attacker)
    until(lambda: attacked.receiver.has_some("/mine", event_id), 30, "the webhook's event")


def test_mutated_records_on_every_topic(attacked: AdversarySystem) -> None:
    """Half of them are valid records with some bytes changed; the headers are random."""
    rng = random.Random(18)
    real = [CODEC.encode(value) for value in (delivery(), attempt(), dead_letter(), webhook())]
    real.append(completed("evt_mutated", attacked.attacker.id))
    for topic in (*READ_BY_STAGES, "deliveries.held", "deliveries.dead-letter", "subscriptions"):
        for _ in range(40):
            headers = [(chr(rng.randrange(1, 0xD7FF)), rng.randbytes(rng.randrange(20))) for _ in range(3)]
            value = bytearray(rng.choice(real) if rng.random() < 0.5 else rng.randbytes(rng.randrange(200)))
            for _ in range(rng.randrange(1, 6)):
                if value:
                    value[rng.randrange(len(value))] = rng.randrange(256)
            if not (topic in PATIENT and is_newer(bytes(value))):
                attacked.write(topic, bytes(value), headers=headers)


def is_newer(value: bytes) -> bool:
    """Whether it looks like the record of a newer release."""
    try:
        CODEC.decode(value)
    except NewerRecord:
        return True
    except InvalidRecord:
        return False
    return False


def current_incarnation(attacked: AdversarySystem) -> str:
    """The incarnation in the newest sentinel."""
    from contract.clusters import KafkaCluster, running

    cluster = KafkaCluster({"bootstrap.servers": attacked.bootstrap}, attacked.prefix)

    async def read() -> str:
        reader = cluster.reader()
        async with running(reader.run()):
            await asyncio.wait_for(reader.wait_until_ready(), 30)
            return reader.table.incarnation

    return asyncio.run(read())
