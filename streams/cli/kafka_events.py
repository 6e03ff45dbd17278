"""Publish events to Kafka, where its settings are."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial

from scorm_webhooks_cli.input_lines import InputLine, PublishedEvents, parse_lines
from scorm_webhooks_cli.output import progress_bar
from streams.cli.deployment import require_kafka, run_in_deployment
from streams.core.errors import Misconfigured, ScormWebhooksError, Unavailable
from streams.core.events.event import Event
from streams.producer import Ack, EventProducer
from streams.runtime.bootstrap import SqlDeployment
from streams.topics import SESSION_EVENTS

# Events in the producer's queue at once; it has room for ten times as many.
MAX_QUEUED_LINES = 10_000
ACK_TIMEOUT_SECONDS = 60.0


def publish_to_kafka(text: str, *, is_quiet: bool) -> PublishedEvents:
    """Publish the events of all lines; `error` says which line was not acknowledged."""
    deployment = SqlDeployment.from_environment()
    lines = parse_lines(text, deployment.event_codec.encode)
    events = [line.event for line in lines]
    fields = [f"line {line.number}: accountId" for line in lines]
    # A producer's machine may know only Kafka's address.
    has_database = deployment.has_system or "KAFKA_BOOTSTRAP_SERVERS" not in deployment.environ
    counts = run_in_deployment(partial(_check_and_count, events=events, fields=fields)) if has_database else None
    require_kafka(deployment)
    properties = dict(deployment.kafka)
    bootstrap_servers = properties.pop("bootstrap.servers")
    topic = deployment.settings.topic_prefix + SESSION_EVENTS
    with EventProducer(bootstrap_servers, topic=topic, properties=properties, codec=deployment.event_codec) as producer:
        futures = publish_all(producer, lines, is_quiet=is_quiet)
    published = PublishedEvents(len(lines), has_counts=counts is not None)
    for index, (line, future) in enumerate(futures):
        if ack := _ack_of(future):
            published.add(ack.event_id, counts[index] if counts else None)
        elif published.error is None and (error := future.exception(timeout=0)):
            kind = Misconfigured if isinstance(error, Misconfigured) else Unavailable
            published.error = kind(f"line {line.number}: {error}")
    return published


def publish_all(
    producer: EventProducer, lines: Sequence[InputLine], *, is_quiet: bool
) -> list[tuple[InputLine, Future[Ack]]]:
    """Publish in order; stop after the first portion with an event that was not acknowledged in time.

    The remaining futures are done when the producer is closed.
    """
    published_lines: list[tuple[InputLine, Future[Ack]]] = []
    with progress_bar(is_disabled=is_quiet) as progress:
        task_id = progress.add_task("publishing", total=len(lines))
        for start_index in range(0, len(lines), MAX_QUEUED_LINES):
            published_portion = [
                (line, _publish(producer, line.event)) for line in lines[start_index : start_index + MAX_QUEUED_LINES]
            ]
            published_lines += published_portion
            wait([future for _, future in published_portion], ACK_TIMEOUT_SECONDS)
            if not all(future.done() and future.exception() is None for _, future in published_portion):
                break
            progress.advance(task_id, len(published_portion))
    return published_lines


def _publish(producer: EventProducer, event: Event) -> Future[Ack]:
    try:
        return producer.publish(event)
    except ScormWebhooksError as error:
        failed_future: Future[Ack] = Future()
        failed_future.set_exception(error)
        return failed_future


def _ack_of(future: Future[Ack]) -> Ack | None:
    with suppress(ScormWebhooksError):
        return future.result(timeout=0)
    return None


async def _check_and_count(
    deployment: SqlDeployment, events: Sequence[Event], fields: Sequence[str]
) -> Sequence[int | None] | None:
    recipients = deployment.recipients()
    await recipients.require_accounts(events, fields)
    return await recipients.count(events)
