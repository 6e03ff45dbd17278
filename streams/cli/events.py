"""The command that publishes events."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.output import JsonOption, in_deployment, show
from streams.core.errors import FieldError, Invalid
from streams.core.event import Event, parse_event

events = typer.Typer(no_args_is_help=True, help="What happened at the platform.")


@events.command("publish")
def events_publish(
    file: Annotated[str, typer.Argument(help="A file of JSON events, one a line; - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Publish events: the payload's JSON plus `accountId`, one a line. All are checked before the first is sent.

    Says how many webhooks want them. Without the database, accounts are not checked and webhooks not counted.
    """
    from rich.progress import track

    from streams.producer import EventProducer
    from streams.topics import SESSION_EVENTS
    from streams.wiring import Deployment

    deployment = Deployment.from_environment()
    text = sys.stdin.read() if file == "-" else _read(file)
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    found = [parse_line(number, line) for number, line in lines.items()]
    fields = [f"line {number}: accountId" for number in lines]
    counts = in_deployment(lambda deployment: deployment.recipients().count(found, fields))
    properties = dict(deployment.kafka)
    servers = properties.pop("bootstrap.servers")
    topic = deployment.settings.topic_prefix + SESSION_EVENTS
    with EventProducer(servers, topic=topic, properties=properties, codec=deployment.event_codec) as producer:
        sent = [producer.publish(event) for event in found]
        quiet = as_json or not sys.stderr.isatty()
        acks = [ack.result(timeout=60) for ack in track(sent, "publishing", disable=quiet)]
    if as_json:
        show(_published([ack.event_id for ack in acks], counts), as_json)
    else:
        typer.echo(f"{len(acks)} events published{_explain(counts)}")


def _published(ids: Sequence[str], counts: Sequence[int] | None) -> dict[str, Any]:
    events: list[dict[str, Any]] = [{"id": name} for name in ids]
    for event, count in zip(events, counts or (), strict=False):
        event["webhooks"] = count
    return {"published": len(ids), "ids": list(ids), "events": events}


def _explain(counts: Sequence[int] | None) -> str:
    if counts is None:
        return "; the database does not answer, so accounts were not checked and webhooks not counted"
    if unwanted := counts.count(0):
        return f"; no webhook wants {unwanted} of them: see `scorm-webhooks webhooks list`"
    return ""


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(FieldError(file, str(error))) from None


def parse_line(number: int, line: str) -> Event:
    """The event of one line; `Invalid` names the line and the field."""
    from streams.products import new_id

    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise Invalid(FieldError("event", "must be a JSON object"))
        return parse_event(fields, default_id=new_id("evt"))
    except Invalid as wrong:
        raise Invalid(*(FieldError(f"line {number}: {e.field}", e.message) for e in wrong.errors)) from None
    except ValueError as error:
        raise Invalid(FieldError(f"line {number}", f"is not JSON: {error}")) from None
