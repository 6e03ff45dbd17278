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


class FanOutProcess:
    """The `fan-out` stage. A drain finishes the current batch and starts no other."""

    def __init__(self, deployment: Deployment, telemetry: Telemetry) -> None:
        self._subscriptions = deployment.subscriptions_reader(telemetry)
        self._producer = deployment.producer(telemetry)
        self._outages = deployment.outages(telemetry)
        self._fan_out = FanOut(deployment.event_codec, self._subscriptions, self._producer, telemetry, self._outages)
        client = deployment.event_client(telemetry)
        settings = deployment.settings
        # Faust makes its fetches wait. librdkafka cannot, so the batches wait instead.
        gather_seconds = settings.latency_budget_ms / 1000 if settings.fan_out_consumer == "librdkafka" else 0
        self._reader = EventReader(client, deployment.event_codec, telemetry, self._outages, gather_seconds)
        group_name, client_name = settings.topic_prefix + FAN_OUT_GROUP, settings.fan_out_consumer
        self._check_group = partial(check_group, deployment.client_ids(group_name), group_name, client_name)
        # Why this stage does not join its group yet.
        self._start_problem: str | None = None
        self._drain_seconds = deployment.settings.time_limits.drain_seconds

    async def run(self) -> None:
        try:
            await run_until_first_ends(self._subscriptions.run, self._consume)
        finally:
            await self._producer.close()

    async def _consume(self) -> None:
        # The first request for the end of the topic opens a connection. Do it before the first event.
        await self._subscriptions.catch_up()
        # A member that joined anyway would fail again and again.
        await wait_until_met(self._check_group, BROKER, self._outages, self._set_start_problem)
        self._start_problem = None
        await run_until_first_ends(self._reader.run, lambda: self._fan_out.run(self._reader))

    def _set_start_problem(self, reason: str) -> None:
        self._start_problem = reason

    async def drain(self) -> None:
        await self._reader.drain(self._drain_seconds)

    def readiness_problems(self) -> list[str]:
        return [
            *self._subscriptions.readiness_problems(),
            *self._producer.readiness_problems(),
            *([self._start_problem] if self._start_problem else self._reader.readiness_problems()),
        ]


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


class DeliverProcess:
    """The `deliver` stage."""

    def __init__(self, deployment: Deployment, telemetry: Telemetry) -> None:
        settings = deployment.settings
        self._prefix = settings.topic_prefix
        self._subscriptions = deployment.subscriptions_reader(telemetry, deployment.encryption.can_decrypt_check)
        self._producer = deployment.producer(telemetry, PRODUCER_LINGER_MS)
        retry_topics = [retry_topic(tier) for tier in deployment.tiers]
        self._consumer = deployment.consumer(DELIVER_GROUP, [*DELIVER_TOPICS, *retry_topics], telemetry)
        # Read every existing tier, so that a changed schedule leaves no record behind.
        self._topics_watch = watch_topics(
            deployment, self._consumer, lambda name: name in DELIVER_TOPICS or bool(tier_of(name)), retry_topics
        )
        # A request has a slot, or a slow one.
        per_slot = 1 + SLOW_SLOTS
        max_connections = limit_connections(max(MAX_CONNECTIONS, per_slot * settings.slots))
        outages = deployment.outages(telemetry)
        self._sender = HttpSender(
            connections=max_connections,
            timeout_seconds=settings.attempt_timeout_seconds,
            allowed_networks=settings.allowed_networks,
            ca_file=settings.ca_file,
            dns_probe_host=settings.dns_probe_host,
            proxy=_egress_proxy(settings, outages),
        )
        self._telemetry, self._clock = telemetry, deployment.clock
        self._loop_clock = LoopClock()
        slot_count = min(settings.slots, max(2, max_connections // per_slot))
        if slot_count < settings.slots:
            telemetry.warning(
                "fewer_slots_than_set", slots=slot_count, why="the limit of open files (ulimit -n) is too low"
            )
        self._limiter = SlotLimiter(Slots(slot_count, time.monotonic), self._loop_clock.now)
        self._erasures = deployment.erasures_reader(telemetry)
        ports = DeliverPorts(
            codec=deployment.codec,
            subscriptions=self._subscriptions,
            replay_lookup=deployment.replay_lookup(telemetry),
            erased_learners=self._erasures,
            encryption=deployment.encryption,
            sender=self._sender,
            producer=self._producer,
            clock=deployment.clock,
            telemetry=telemetry,
        )
        policy = DeliveryPolicy(
            settings.retry_schedule,
            settings.attempt_timeout_seconds,
            settings.signature_header,
            settings.send_traceparent,
            settings.user_agent,
        )
        deliver = Deliver(ports, policy, self._limiter, outages)
        self._partition_consumer = PartitionConsumer(
            self._consumer, deliver, self._producer, deployment.clock, telemetry, outages
        )

    async def run(self) -> None:
        try:
            await run_until_first_ends(
                self._subscriptions.run,
                self._erasures.run,
                self._consume,
                lambda: self._loop_clock.run(lambda: self._limiter.is_used),
                lambda: self._limiter.run(self._telemetry, self._clock),
            )
        finally:
            await self._sender.close()
            await self._producer.close()

    async def _consume(self) -> None:
        await self._subscriptions.wait_until_ready()
        await self._erasures.wait_until_ready()
        await self._topics_watch.check()
        await run_until_first_ends(self._topics_watch.run, self._partition_consumer.run)

    async def drain(self) -> None:
        self._limiter.close()
        await self._partition_consumer.drain(REQUESTS_DRAIN_SECONDS, DELIVER_DRAIN_SECONDS)

    def readiness_problems(self) -> list[str]:
        absent_topics = self._topics_watch.missing_topics
        return [
            *([missing_topics_message(absent_topics, self._prefix)] if absent_topics else []),
            *self._subscriptions.readiness_problems(),
            *self._erasures.readiness_problems(),
            *self._producer.readiness_problems(),
            *self._consumer.readiness_problems(),
            *self._partition_consumer.readiness_problems(),
        ]


class RecordProcess:
    """The `record` stage."""

    def __init__(self, deployment: "SqlParts", telemetry: Telemetry) -> None:
        self._drain_seconds = deployment.settings.time_limits.drain_seconds
        self._producer = deployment.producer(telemetry)
        self._consumer = deployment.consumer(RECORD_GROUP, RECORD_INPUTS, telemetry, in_bulk=True)
        self._topics_watch = watch_topics(deployment, self._consumer, lambda name: name in RECORD_INPUTS, ())
        self._database = deployment.database
        self._stage = RecordStage(
            self._consumer,
            deployment.codec,
            deployment.recorder(telemetry),
            self._producer,
            deployment.clock,
            telemetry,
            deployment.outages(telemetry),
        )

    async def run(self) -> None:
        try:
            await run_until_first_ends(self._topics_watch.run, self._stage.run)
        finally:
            await self._producer.close()
            await self._database.close()

    async def drain(self) -> None:
        await self._stage.drain(self._drain_seconds)

    def readiness_problems(self) -> list[str]:
        return [
            *self._database.readiness_problems(),
            *self._producer.readiness_problems(),
            *self._consumer.readiness_problems(),
            *self._stage.readiness_problems(),
        ]
