"""The stage `meter`: its counts equal a recount of the topic, and each threshold has one notice."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition

import schemas
from chaos.load import TYPES
from chaos.scenario import ScenarioRun
from e2e.system import System, until
from streams.adapters.avro.codec import HEADER_BYTES, fingerprint_header

MEMBERS = 2
LIMIT = 40
PERCENTS = [80, 100]
COUNTED_SECONDS = 90
SCHEMAS: dict[bytes, Any] = {
    fingerprint_header(schema): fastavro.parse_schema(schema) for schema in schemas.history("session_event")
}


def kills_and_rebalances(scenario_run: ScenarioRun, rounds: int) -> None:
    """Members are killed, join and leave, while events come several times. `publish` is killed: it sends notices."""
    account = customer(scenario_run)
    with ExitStack() as stack:
        members = [stack.enter_context(scenario_run.member(f"meter-{number}")) for number in range(MEMBERS)]
        guest = stack.enter_context(scenario_run.member("meter-guest"))
        for member in members:
            member.launch("meter")
        for _ in range(rounds):
            for member in members:
                until(lambda: launches_of(scenario_run, account) > 0, COUNTED_SECONDS, "launches are counted")
                kill(scenario_run, member)
            guest.launch("meter")
            until(lambda: guest.is_ready("meter"), COUNTED_SECONDS, "a guest joins")
            guest.stop("meter")
        until(lambda: launches_of(scenario_run, account) >= LIMIT, COUNTED_SECONDS, "the limit is reached")
        scenario_run.kill("publish")
        scenario_run.end()
        check(scenario_run, account)


def customer(scenario_run: ScenarioRun) -> str:
    """An account with a plan limit. Its webhook takes no notices: nobody published these, to the checker."""
    loaded = scenario_run.loaded
    account = loaded.account()
    loaded.system.run("accounts", "update", account, "--plan-limit", str(LIMIT))
    loaded.webhook(account, f"{scenario_run.name}-counted", types=",".join(TYPES))
    scenario_run.add(account)
    return account


def kill(scenario_run: ScenarioRun, member: System) -> None:
    member.kill("meter")
    scenario_run.kills += 1
    member.launch("meter")


def check(scenario_run: ScenarioRun, account: str) -> None:
    """Compare what is stored with the topic, once everything is counted and the notices are on the topic."""
    topic = Topic(scenario_run)
    until(lambda: topic.is_counted(), COUNTED_SECONDS, "every event is counted")
    launches = {event["id"] for event in topic.events(account, "session.launched")}
    assert launches_of(scenario_run, account) == len(launches), f"{len(launches)} launches are on the topic"
    query = "SELECT percent FROM usage_notices WHERE account_id = %s ORDER BY percent"
    assert [row[0] for row in rows(scenario_run, query, account)] == PERCENTS
    until(lambda: not rows(scenario_run, "SELECT id FROM outgoing_events"), COUNTED_SECONDS, "the notices are sent")
    notices = {event["id"]: event["data"]["thresholdPercent"] for event in topic.events(account, "usage.threshold")}
    assert sorted(notices.values()) == PERCENTS, f"on the topic: {notices}"


def launches_of(scenario_run: ScenarioRun, account: str) -> int:
    month = f"{datetime.now(UTC):%Y-%m}"
    query = "SELECT launches FROM usage_months WHERE account_id = %s AND month = %s"
    found = rows(scenario_run, query, account, month)
    return int(found[0][0]) if found else 0


def rows(scenario_run: ScenarioRun, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(scenario_run.loaded.database_url) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


class Topic:
    """A topic, such as `session-events`, read by the published schemas alone."""

    def __init__(self, scenario_run: ScenarioRun, name: str = "session-events") -> None:
        self._run = scenario_run
        self._name = scenario_run.loaded.prefix + name
        self._config = {
            "bootstrap.servers": scenario_run.loaded.kafka.bootstrap,
            "group.id": "recount",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }

    def is_counted(self) -> bool:
        """Whether the meter has read to the end of each partition."""
        stored = dict(rows(self._run, "SELECT partition, next_offset FROM usage_positions"))
        with closing(Consumer(self._config)) as consumer:
            ends = {
                one: consumer.get_watermark_offsets(TopicPartition(self._name, one), 10)[1]
                for one in self._partitions(consumer)
            }
        return all(stored.get(partition, 0) >= end for partition, end in ends.items())

    def events(self, account: str, type_: str) -> Iterator[dict[str, Any]]:
        """The events of one type of an account, as often as they were published."""
        for value in self.values():
            if (schema := SCHEMAS.get(value[:HEADER_BYTES])) is None:
                continue
            try:
                event = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)
            except (EOFError, ValueError, IndexError, UnicodeDecodeError):
                continue
            assert isinstance(event, dict)
            if (event["accountId"], event["type"]) == (account, type_):
                yield event

    def values(self) -> Iterator[bytes]:
        """Every value of the topic, until now."""
        with closing(Consumer(self._config)) as consumer:
            partitions = self._partitions(consumer)
            consumer.assign([TopicPartition(self._name, one, 0) for one in partitions])
            left = set(partitions)
            while left:
                message = consumer.poll(10)
                assert message is not None, "Kafka does not respond"
                error, partition = message.error(), message.partition()
                if error is None:
                    yield message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF and partition is not None:
                    left.discard(partition)

    def _partitions(self, consumer: Consumer) -> list[int]:
        return list(consumer.list_topics(self._name, 10).topics[self._name].partitions)
