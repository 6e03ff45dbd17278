"""Commands for events."""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from api.events.models import AcceptedEventDetails, AcceptedEvents, event_with_deliveries
from streams.cli.output import JsonOption, parse_time_option, progress_bar, require_kafka, run_in_deployment, show
from streams.cli.text import say
from streams.core.errors import FieldError, Invalid, Misconfigured, ScormWebhooksError, Unavailable
from streams.core.events.event import Event, parse_event
from streams.ids import new_id
from streams.ports.kafka import Codec
from streams.producer import Ack, EventProducer
from streams.runtime.bootstrap import SqlDeployment
from streams.topics import SESSION_EVENTS

# Events in the producer's queue at once; it has room for ten times as many.
MAX_QUEUED_LINES = 10_000
ACK_TIMEOUT_SECONDS = 60.0
# Only the first errors of a file are printed.
MAX_SHOWN_ERRORS = 20

events = typer.Typer(no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class InputLine:
    """One event, and the number of its line, from 1."""

    number: int
    event: Event


@events.command("publish")
def events_publish(
    file: Annotated[str, typer.Argument(help="A file of JSON events, one a line; - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Publish events: the payload's JSON plus `accountId`, one a line. All are checked before the first is published.

    Prints how many webhooks want them. Without the database, accounts are not checked and webhooks are not counted.
    """
    deployment = SqlDeployment.from_environment()
    lines = parse_lines(_read_input(file), deployment.event_codec)
    events = [line.event for line in lines]
    fields = [f"line {line.number}: accountId" for line in lines]
    # A producer's machine may have Kafka's address alone.
    has_database = deployment.has_system or "KAFKA_BOOTSTRAP_SERVERS" not in deployment.environ
    counts = run_in_deployment(partial(_check_and_count, events=events, fields=fields)) if has_database else None
    require_kafka(deployment)
    properties = dict(deployment.kafka)
    bootstrap_servers = properties.pop("bootstrap.servers")
    topic = deployment.settings.topic_prefix + SESSION_EVENTS
    with EventProducer(bootstrap_servers, topic=topic, properties=properties, codec=deployment.event_codec) as producer:
        futures = publish_all(producer, lines, is_quiet=as_json)
    acks = [ack for _, future in futures if (ack := _ack_of(future))]
    if as_json:
        event_counts = (
            [count for count, (_, future) in zip(counts, futures, strict=False) if _ack_of(future)] if counts else None
        )
        show(_to_accepted_events([ack.event_id for ack in acks], event_counts), as_json)
    else:
        event_count_text = "1 event" if len(acks) == 1 else f"{len(acks)} events"
        say(f"{event_count_text} published{_explain_counts(counts)}")
    for line, future in futures:
        if error := future.exception(timeout=0):
            kind = Misconfigured if isinstance(error, Misconfigured) else Unavailable
            raise kind(f"line {line.number}: {error}; {len(acks)} of {len(lines)} events are published")


def publish_all(
    producer: EventProducer, lines: Sequence[InputLine], *, is_quiet: bool
) -> list[tuple[InputLine, Future[Ack]]]:
    """Publish in order; stop after the first portion with an event that was not acknowledged in time.

    Futures that are not done then are done when the producer is closed.
    """
    published_lines: list[tuple[InputLine, Future[Ack]]] = []
    with progress_bar(is_quiet=is_quiet) as progress:
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


@events.command("find")
def events_find(
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")],
    account: Annotated[str, typer.Option(help="The account's id.")],
    since: Annotated[
        str | None,
        typer.Option(
            help="Look on the topic from this time on, for an hour: 2026-04-10T14:32:00Z. Default: the last "
            "hour, or around the time in a generated id."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say where an event is: its deliveries, or the topic, and then which webhooks want it, or why none does."""
    since_time = parse_time_option("--since", since) if since else None
    found_event = run_in_deployment(lambda deployment: deployment.event_search().find(event_id, account, since_time))
    show(event_with_deliveries(event_id, found_event), as_json)


async def _check_and_count(
    deployment: SqlDeployment, events: Sequence[Event], fields: Sequence[str]
) -> Sequence[int | None] | None:
    recipients = deployment.recipients()
    await recipients.require_accounts(events, fields)
    return await recipients.count(events)


def _to_accepted_events(ids: Sequence[str], counts: Sequence[int | None] | None) -> AcceptedEvents:
    pairs = zip(ids, counts or [None] * len(ids), strict=False)
    details = [AcceptedEventDetails(id=event_id, webhooks=count) for event_id, count in pairs]
    return AcceptedEvents(ids=list(ids), events=details)


def _explain_counts(counts: Sequence[int | None] | None) -> str:
    if counts is None:
        return "; no database answers, so accounts were not checked and webhooks not counted"
    if None in counts:
        return "; their accounts have too many webhooks or scope ids, so webhooks were not counted"
    if unwanted_count := counts.count(0):
        unwanted = "it" if len(counts) == 1 else f"{unwanted_count} of them"
        return f"; no webhook wants {unwanted}: `scorm-webhooks events find ID --account ACCOUNT` says why"
    return ""


def _read_input(file: str) -> str:
    if file == "-" and sys.stdin is None:
        raise Invalid(FieldError("standard input", "is closed"))
    try:
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        message = (isinstance(error, OSError) and error.strerror) or str(error)
        raise Invalid(FieldError("standard input" if file == "-" else file, message)) from None


def parse_lines(text: str, codec: Codec | None = None) -> list[InputLine]:
    """Parse all lines. Raises `Invalid`, which names each wrong line, also one that `codec` does not take."""
    lines: list[InputLine] = []
    errors: list[FieldError] = []
    wrong_count = 0
    for number, line in _numbered_lines(text):
        try:
            lines.append(InputLine(number, parse_line(number, line, codec)))
        except Invalid as error:
            wrong_count += 1
            errors += error.errors
    if errors:
        message = f"{wrong_count} of {wrong_count + len(lines)} lines are wrong: nothing is published"
        raise Invalid(*errors[:MAX_SHOWN_ERRORS], FieldError("events", message))
    return lines


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    # `splitlines` also splits at U+2028 and others, which JSON may contain.
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def parse_line(number: int, line: str, codec: Codec | None = None) -> Event:
    """Parse one line. Raises `Invalid`, which names the line and the field."""
    try:
        event_fields = json.loads(line)
        if not isinstance(event_fields, dict):
            raise Invalid(FieldError("event", "must be a JSON object"))
        event = parse_event(event_fields, default_id=new_id("evt"), now=datetime.now(UTC))
        if codec is not None:
            codec.encode(event)
        return event
    except Invalid as error:
        raise Invalid(*(FieldError(f"line {number}: {e.field}", e.message) for e in error.errors)) from None
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at character {error.pos}; write each event on one line"
        raise Invalid(FieldError(f"line {number}", message)) from None
    except ValueError as error:
        raise Invalid(FieldError(f"line {number}", f"is not JSON: {error}")) from None
    except RecursionError:
        raise Invalid(FieldError(f"line {number}", "is nested too deeply")) from None
