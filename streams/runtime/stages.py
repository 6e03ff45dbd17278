"""The stages `fan-out`, `deliver` and `record`, with their parts."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streams.adapters.http.proxy import EgressProxy
from streams.adapters.http.sender import MAX_CONNECTIONS, HttpSender
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer
from streams.adapters.kafka.consuming.topics_watch import TopicsWatch
from streams.adapters.open_files import limit_connections
from streams.core.deliveries.time_limits import DELIVER_DRAIN_SECONDS, REQUESTS_DRAIN_SECONDS
from streams.core.queues.slots import SLOW_SLOTS, Slots
from streams.outage import BROKER, EGRESS_PROXY, Outages
from streams.ports.runtime import Telemetry
from streams.runtime.deployment import Deployment
from streams.runtime.running_stage import Stage
from streams.runtime.startup_checks import check_group, missing_topics_message, wait_until_met
from streams.settings import Settings
from streams.stages.attempt import DeliverPorts, DeliveryPolicy
from streams.stages.consuming.event_reader import EventReader
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.stages.deliver import Deliver
from streams.stages.fan_out import FanOut
from streams.stages.limiting.loop_clock import LoopClock
from streams.stages.limiting.slot_limiter import SlotLimiter
from streams.stages.record import RecordStage
from streams.tasks import run_until_first_ends
from streams.topics import (
    BULK_DELIVERIES,
    DELIVER_GROUP,
    DELIVERIES,
    FAN_OUT_GROUP,
    RECORD_GROUP,
    RECORD_INPUTS,
    TEST_DELIVERIES,
    retry_topic,
    tier_of,
)

if TYPE_CHECKING:
    from streams.runtime.sql_parts import SqlParts

# The event is delivered, so the records about it may be batched, which saves the broker requests.
PRODUCER_LINGER_MS = 20

# A request has a slot, or a slow one.
_PER_SLOT = 1 + SLOW_SLOTS

# The topics that `deliver` reads in addition to the retry topics.
DELIVER_TOPICS = (DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES)


def watch_topics(
    deployment: Deployment,
    consumer: KafkaRecordConsumer,
    is_read: Callable[[str], bool],
    required_topics: Sequence[str],
) -> TopicsWatch:
    """A watch that keeps a consumer subscribed to the deployment's existing topics."""
    return TopicsWatch(deployment.topics_admin().partition_counts, consumer.subscribe, is_read, required_topics)


def fan_out(deployment: Deployment, telemetry: Telemetry) -> Stage:
    """The stage `fan-out`. A drain finishes the current batch and starts no other."""
    settings, outages = deployment.settings, deployment.outages(telemetry)
    subscriptions, producer = deployment.subscriptions_reader(telemetry), deployment.producer(telemetry)
    # Faust makes its fetches wait. librdkafka cannot, so the batches wait instead.
    gather_seconds = settings.latency_budget_ms / 1000 if settings.fan_out_consumer == "librdkafka" else 0
    client = deployment.event_client(telemetry)
    reader = EventReader(client, deployment.event_codec, telemetry, outages, gather_seconds)
    work = FanOut(deployment.event_codec, subscriptions, producer, telemetry, outages)
    group_name, client_name = settings.topic_prefix + FAN_OUT_GROUP, settings.fan_out_consumer
    check = partial(check_group, deployment.client_ids(group_name), group_name, client_name)
    # Why this stage does not join its group yet.
    start_problems: list[str] = []

    def set_start_problem(reason: str) -> None:
        start_problems[:] = [reason]

    async def consume() -> None:
        # The first request for the end of the topic opens a connection. Do it before the first event.
        await subscriptions.catch_up()
        # A member that joined anyway would fail again and again.
        await wait_until_met(check, BROKER, outages, set_start_problem)
        start_problems.clear()
        await run_until_first_ends(reader.run, lambda: work.run(reader))

    return Stage(
        tasks=[subscriptions.run, consume],
        closes=[producer.close],
        problems=[
            subscriptions.readiness_problems,
            producer.readiness_problems,
            lambda: start_problems or reader.readiness_problems(),
        ],
        drain=lambda: reader.drain(settings.time_limits.drain_seconds),
    )


def _egress_proxy(settings: Settings, outages: Outages) -> EgressProxy | None:
    """The proxy that requests to endpoints go through; None if they go there directly."""
    if settings.egress_proxy is None:
        return None
    parts, credentials = urlsplit(settings.egress_proxy), settings.egress_proxy_credentials
    return EgressProxy(
        parts.hostname or "",
        parts.port or 0,
        outages[EGRESS_PROXY],
        credentials.get_secret_value() if credentials else None,
        settings.egress_proxy_resolves,
    )


def deliver(deployment: Deployment, telemetry: Telemetry) -> Stage:
    """The stage `deliver`."""
    settings, outages = deployment.settings, deployment.outages(telemetry)
    subscriptions = deployment.subscriptions_reader(telemetry, deployment.encryption.is_valid_check_text)
    erasures = deployment.erasures_reader(telemetry)
    producer = deployment.producer(telemetry, PRODUCER_LINGER_MS)
    retry_topics = [retry_topic(tier) for tier in deployment.tiers]
    consumer = deployment.consumer(DELIVER_GROUP, [*DELIVER_TOPICS, *retry_topics], telemetry)
    # Read every existing tier, so that a changed schedule leaves no record behind.
    topics_watch = watch_topics(
        deployment, consumer, lambda name: name in DELIVER_TOPICS or bool(tier_of(name)), retry_topics
    )
    max_connections = limit_connections(max(MAX_CONNECTIONS, _PER_SLOT * settings.slots))
    sender = _sender(settings, max_connections, outages)
    loop_clock = LoopClock()
    limiter = SlotLimiter(Slots(_slot_count(settings, max_connections, telemetry), time.monotonic), loop_clock.now)
    ports = DeliverPorts(
        codec=deployment.codec,
        subscriptions=subscriptions,
        replay_lookup=deployment.replay_lookup(telemetry),
        erased_learners=erasures,
        encryption=deployment.encryption,
        sender=sender,
        producer=producer,
        clock=deployment.clock,
        telemetry=telemetry,
    )
    work = Deliver(ports, _delivery_policy(settings), limiter, outages)
    partition_consumer = PartitionConsumer(consumer, work, producer, deployment.clock, telemetry, outages)

    async def consume() -> None:
        await subscriptions.wait_until_ready()
        await erasures.wait_until_ready()
        await topics_watch.check()
        await run_until_first_ends(topics_watch.run, partition_consumer.run)

    async def drain() -> None:
        limiter.close()
        await partition_consumer.drain(REQUESTS_DRAIN_SECONDS, DELIVER_DRAIN_SECONDS)

    def topic_problems() -> list[str]:
        absent_topics = topics_watch.missing_topics
        return [missing_topics_message(absent_topics, settings.topic_prefix)] if absent_topics else []

    return Stage(
        tasks=[
            subscriptions.run,
            erasures.run,
            consume,
            lambda: loop_clock.run(lambda: limiter.is_needed),
            lambda: limiter.run(telemetry, deployment.clock),
        ],
        closes=[sender.close, producer.close],
        problems=[
            topic_problems,
            subscriptions.readiness_problems,
            erasures.readiness_problems,
            producer.readiness_problems,
            consumer.readiness_problems,
            partition_consumer.readiness_problems,
        ],
        drain=drain,
    )


def _slot_count(settings: Settings, max_connections: int, telemetry: Telemetry) -> int:
    slot_count = min(settings.slots, max(2, max_connections // _PER_SLOT))
    if slot_count < settings.slots:
        telemetry.warning(
            "fewer_slots_than_set", slots=slot_count, why="the limit of open files (ulimit -n) is too low"
        )
    return slot_count


def _sender(settings: Settings, max_connections: int, outages: Outages) -> HttpSender:
    return HttpSender(
        connections=max_connections,
        timeout_seconds=settings.attempt_timeout_seconds,
        allowed_networks=settings.allowed_networks,
        ca_file=settings.ca_file,
        dns_probe_host=settings.dns_probe_host,
        proxy=_egress_proxy(settings, outages),
    )


def _delivery_policy(settings: Settings) -> DeliveryPolicy:
    return DeliveryPolicy(
        settings.retry_schedule,
        settings.attempt_timeout_seconds,
        settings.signature_header,
        settings.send_traceparent,
        settings.user_agent,
    )


def record(deployment: "SqlParts", telemetry: Telemetry) -> Stage:
    """The stage `record`."""
    producer, database = deployment.producer(telemetry), deployment.database
    consumer = deployment.consumer(RECORD_GROUP, RECORD_INPUTS, telemetry, in_bulk=True)
    topics_watch = watch_topics(deployment, consumer, lambda name: name in RECORD_INPUTS, ())
    work = RecordStage(
        consumer,
        deployment.codec,
        deployment.recorder(telemetry),
        producer,
        deployment.clock,
        telemetry,
        deployment.outages(telemetry),
    )
    return Stage(
        tasks=[topics_watch.run, work.run],
        closes=[producer.close, database.close],
        problems=[
            database.readiness_problems,
            producer.readiness_problems,
            consumer.readiness_problems,
            work.readiness_problems,
        ],
        drain=lambda: work.drain(deployment.settings.time_limits.drain_seconds),
    )
