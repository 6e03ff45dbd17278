"""The commands for accounts, webhooks and events."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.output import JsonOption, delivery_fields, in_deployment, show, webhook_fields
from streams.core.account import DeliverySeen
from streams.core.delivery import State
from streams.core.errors import FieldError, Invalid
from streams.core.event import Event, parse_event
from streams.core.event_data import EVENT_TYPES
from streams.core.held import HeldChoice
from streams.services.webhooks import Changed, Wish
from streams.telemetry import PrometheusReport
from streams.wiring import Deployment, new_id

accounts = typer.Typer(no_args_is_help=True, help="Customers of the platform.")
webhooks = typer.Typer(no_args_is_help=True, help="Where events are sent.")
events = typer.Typer(no_args_is_help=True, help="What happened at the platform.")


@accounts.command("create")
def accounts_create(
    name: Annotated[str, typer.Argument(help="The customer's name.")],
    email: Annotated[list[str] | None, typer.Option(help="Who gets its notifications; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Open an account. Its API key is shown this once."""
    opened = in_deployment(lambda deployment: deployment.accounts().open(name, email or ()))
    account = opened.account
    show(
        {"id": account.id, "name": account.name, "emails": list(account.emails), "apiKey": opened.api_key},
        as_json,
    )


@webhooks.command("create")
def webhooks_create(
    account: Annotated[str, typer.Option(help="The account's id.")],
    url: Annotated[str, typer.Option(help="Where the events are sent.")],
    events: Annotated[str, typer.Option(help=f"Types by comma: {', '.join(EVENT_TYPES)}; or *.")] = "*",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    package: Annotated[list[str] | None, typer.Option(help="Only events of this package; may be repeated.")] = None,
    dispatch: Annotated[list[str] | None, typer.Option(help="Only events of this dispatch; may be repeated.")] = None,
    fallback_url: Annotated[str | None, typer.Option(help="Where to send what would become a dead letter.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value', sent with each; may be repeated.")] = None,
    max_concurrency: Annotated[int, typer.Option(help="Requests at once, at most.")] = 32,
    as_json: JsonOption = False,
) -> None:
    """Register a webhook and show its signing secret."""
    wish = Wish(
        account_id=account,
        url=url,
        events=[part.strip() for part in events.split(",") if part.strip()],
        description=description,
        packages=package or (),
        dispatches=dispatch or (),
        fallback_url=fallback_url,
        headers=_headers(header or ()),
        max_concurrency=max_concurrency,
    )
    registered = in_deployment(lambda deployment: deployment.webhooks().register(wish))
    changed = registered.changed
    show(
        {
            **webhook_fields(changed.registration),
            "secret": registered.secret,
            "propagated": changed.propagated,
        },
        as_json,
    )
    _warn(changed)


@webhooks.command("list")
def webhooks_list(
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the webhooks."""
    found = in_deployment(lambda deployment: deployment.webhooks().list(account))
    show([webhook_fields(registration) for registration in found], as_json)


WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]


@webhooks.command("pause")
def webhooks_pause(webhook_id: WebhookId, as_json: JsonOption = False) -> None:
    """Let no request leave any more; what is owed is held."""
    _show_changed(in_deployment(lambda deployment: deployment.webhooks().pause(webhook_id)), as_json)


@webhooks.command("enable")
def webhooks_enable(
    webhook_id: WebhookId,
    held: Annotated[
        HeldChoice, typer.Option(help="What becomes of what is held: sent on, kept as dead letters, or discarded.")
    ] = HeldChoice.DELIVER,
    as_json: JsonOption = False,
) -> None:
    """Let requests leave again, with health counted anew."""
    _show_changed(in_deployment(lambda deployment: deployment.webhooks().enable(webhook_id, held)), as_json)


@webhooks.command("test")
def webhooks_test(
    webhook_id: WebhookId,
    event: Annotated[str, typer.Option(help=f"Its type: {', '.join(EVENT_TYPES)}.")] = "session.completed",
    as_json: JsonOption = False,
) -> None:
    """Send one test event, even to a paused webhook, and show the answer. Exit code 1 if it was not delivered."""

    async def send(deployment: Deployment) -> DeliverySeen:
        log = deployment.log(PrometheusReport("test"))
        try:
            return await deployment.trials(log).send(webhook_id, event)
        finally:
            await log.close()

    seen = in_deployment(send)
    show(delivery_fields(seen), as_json)
    if seen.standing.state is not State.DELIVERED:
        raise typer.Exit(1)


@webhooks.command("delete")
def webhooks_delete(webhook_id: WebhookId, as_json: JsonOption = False) -> None:
    """Delete a webhook; what it was still owed becomes dead letters."""
    changed = in_deployment(lambda deployment: deployment.webhooks().delete(webhook_id))
    show({"id": webhook_id, "deleted": True, "propagated": changed.propagated}, as_json)
    _warn(changed)


def _show_changed(changed: Changed, as_json: bool) -> None:
    show({**webhook_fields(changed.registration), "propagated": changed.propagated}, as_json)
    _warn(changed)


def _warn(changed: Changed) -> None:
    if not changed.propagated:
        typer.echo("stored, but not on the topic yet: is `publish` running?", err=True)


def _headers(lines: list[str] | tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid(FieldError("headers", f"{line!r} must be written as 'Name: value'"))
        headers[name.strip()] = value.strip()
    return headers


@events.command("publish")
def events_publish(
    file: Annotated[str, typer.Argument(help="A file of JSON events, one a line; - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Publish events: the payload's JSON plus `accountId`, one a line. All are checked before the first is sent."""
    from rich.progress import track

    from streams.producer import EventProducer
    from streams.topics import SESSION_EVENTS

    deployment = Deployment.from_environment()
    lines = sys.stdin.read() if file == "-" else _read(file)
    found = [parse_line(number, line) for number, line in enumerate(lines.splitlines(), 1) if line.strip()]
    properties = dict(deployment.kafka)
    servers = properties.pop("bootstrap.servers")
    topic = deployment.settings.topic_prefix + SESSION_EVENTS
    with EventProducer(servers, topic=topic, properties=properties, codec=deployment.event_codec) as producer:
        sent = [producer.publish(event) for event in found]
        quiet = as_json or not sys.stderr.isatty()
        acks = [ack.result(timeout=60) for ack in track(sent, "publishing", disable=quiet)]
    if as_json:
        show({"published": len(acks), "ids": [ack.event_id for ack in acks]}, as_json)
    else:
        typer.echo(f"{len(acks)} events published")


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(FieldError(file, str(error))) from None


def parse_line(number: int, line: str) -> Event:
    """The event of one line; `Invalid` names the line and the field."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise Invalid(FieldError("event", "must be a JSON object"))
        return parse_event(fields, default_id=new_id("evt"))
    except Invalid as wrong:
        raise Invalid(*(FieldError(f"line {number}: {e.field}", e.message) for e in wrong.errors)) from None
    except ValueError as error:
        raise Invalid(FieldError(f"line {number}", f"is not JSON: {error}")) from None
