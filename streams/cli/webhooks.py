"""Commands for webhooks."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from api.deliveries.models import delivery_with_attempts
from api.webhooks.models import (
    ListedWebhook,
    Webhook,
    rotated_webhook,
    to_listed_webhook,
    to_webhook,
    to_webhook_with_secret,
)
from streams.cli.output import (
    JsonOption,
    YesOption,
    current_actor,
    require_answer,
    require_kafka,
    run_in_deployment,
    show,
)
from streams.cli.text import say
from streams.core.accounts.account import DeliveryDetails, DeliveryFilter
from streams.core.deliveries.delivery import State
from streams.core.deliveries.held import HeldChoice
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES
from streams.core.events.event_filter import parse_filter_json
from streams.core.text import escape_controls
from streams.features.webhooks.input import WebhookInput
from streams.features.webhooks.secrets import DEFAULT_OVERLAP_HOURS, MAX_OVERLAP_HOURS
from streams.features.webhooks.service import ChangeResult
from streams.runtime.bootstrap import SqlDeployment
from streams.telemetry import PrometheusTelemetry

webhooks = typer.Typer(no_args_is_help=True)
_EVENTS_HELP = (
    f"Event types, comma-separated: {', '.join(EVENT_TYPES)}; or *: all but {' and '.join(sorted(OPT_IN_TYPES))}."
)
FILTER_EXAMPLE = '{"successStatus": "passed"}'


@webhooks.command("create")
def webhooks_create(
    account: Annotated[str, typer.Option(help="The account's id.")],
    url: Annotated[str, typer.Option(help="URL of the endpoint.")],
    events: Annotated[str, typer.Option(help=_EVENTS_HELP)] = "*",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    package: Annotated[
        list[str] | None, typer.Option(help="Events of this package, or of a --dispatch; may be repeated.")
    ] = None,
    dispatch: Annotated[
        list[str] | None, typer.Option(help="Events of this dispatch, or of a --package; may be repeated.")
    ] = None,
    fallback_url: Annotated[
        str | None, typer.Option(help="URL that is tried before a delivery becomes a dead letter.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header 'Name: value' of each request to --url; may be repeated.")
    ] = None,
    fallback_header: Annotated[
        list[str] | None,
        typer.Option(help="The same for --fallback-url, which gets --header only if it has the same host as --url."),
    ] = None,
    max_concurrency: Annotated[int, typer.Option(help="Requests in flight at once, at most.")] = 32,
    event_filter: Annotated[
        str | None, typer.Option("--filter", help=f"Only events that match this JSON, such as {FILTER_EXAMPLE}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a webhook and show its signing secret."""
    webhook_input = WebhookInput(
        account_id=account,
        url=url,
        events=[part.strip() for part in events.split(",") if part.strip()],
        description=description,
        packages=package or (),
        dispatches=dispatch or (),
        fallback_url=fallback_url,
        headers=_parse_headers(header or ()),
        fallback_headers=_parse_headers(fallback_header or ()),
        max_concurrency=max_concurrency,
        filter=_parse_filter(event_filter),
    )
    result = run_in_deployment(lambda deployment: deployment.webhooks().register(webhook_input, actor=current_actor()))
    show(to_webhook_with_secret(result, _now()), as_json)
    _warn_if_not_propagated(result.change)


@webhooks.command("list")
def webhooks_list(
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the webhooks."""
    registrations = run_in_deployment(lambda deployment: deployment.webhooks().list(account))
    columns = {"events": "events", "description": "description"} if account else {"account": "accountId"}
    show(
        [ListedWebhook.of_listed(webhook, _now()) for webhook in registrations],
        as_json,
        {"status": _status_text, "url": "url", **columns, "id": "id"},
    )


WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]


@webhooks.command("show")
def webhooks_show(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Show a webhook."""
    registration = run_in_deployment(lambda deployment: deployment.webhooks().find(webhook_id))
    show(Webhook.of_registration(registration, _now()), as_json)


@webhooks.command("pause")
def webhooks_pause(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Pause a webhook: no request leaves, and its deliveries are held."""
    _show_change(
        run_in_deployment(lambda deployment: deployment.webhooks().pause(webhook_id, actor=current_actor())), as_json
    )


@webhooks.command("enable")
def webhooks_enable(
    webhook_id: WebhookArgument,
    held: Annotated[
        HeldChoice, typer.Option(help="What happens to held deliveries: deliver, keep as dead letters, or discard.")
    ] = HeldChoice.DELIVER,
    as_json: JsonOption = False,
) -> None:
    """Enable a webhook. It begins without failures."""
    _show_change(
        run_in_deployment(lambda deployment: deployment.webhooks().enable(webhook_id, held, actor=current_actor())),
        as_json,
    )


@webhooks.command("test")
def webhooks_test(
    webhook_id: WebhookArgument,
    event: Annotated[
        str | None, typer.Option(help=f"The event type: {', '.join(EVENT_TYPES)}. Default: one that the webhook wants.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one test event, even to a paused webhook, and show the response. Exit code 1 if it was not delivered."""

    async def send(deployment: SqlDeployment) -> DeliveryDetails:
        await asyncio.to_thread(require_kafka, deployment)
        producer = deployment.producer(PrometheusTelemetry("test"))
        try:
            return await deployment.synthetic_events(producer).send(webhook_id, event)
        finally:
            await producer.close()

    details = run_in_deployment(send)
    show(delivery_with_attempts(details), as_json)
    if details.delivery_state.state is not State.DELIVERED:
        raise typer.Exit(1)


@webhooks.command("update")
def webhooks_update(
    webhook_id: WebhookArgument,
    url: Annotated[str | None, typer.Option(help="URL of the endpoint.")] = None,
    events: Annotated[str | None, typer.Option(help=_EVENTS_HELP)] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="Events of this package, or of a --dispatch; '' for no package.")
    ] = None,
    dispatch: Annotated[
        list[str] | None, typer.Option(help="Events of this dispatch, or of a --package; '' for no dispatch.")
    ] = None,
    fallback_url: Annotated[str | None, typer.Option(help="As for `create`; '' for none.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header 'Name: value'; replaces all headers; '' for none.")
    ] = None,
    fallback_header: Annotated[
        list[str] | None, typer.Option(help="The same for the fallback URL; '' for none of its own.")
    ] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Requests in flight at once, at most.")] = None,
    event_filter: Annotated[str | None, typer.Option("--filter", help="As for `create`; '' for none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a webhook; options that are not given do not change. A new URL begins without failures."""
    new_values = {
        "url": url,
        "events": [part.strip() for part in events.split(",") if part.strip()] if events is not None else None,
        "description": description,
        "packages": [text for text in package if text] if package else None,
        "dispatches": [text for text in dispatch if text] if dispatch else None,
        "headers": _parse_headers([text for text in header if text]) if header else None,
        "fallback_headers": _parse_headers([text for text in fallback_header if text]) if fallback_header else None,
        "max_concurrency": max_concurrency,
    }
    changes: dict[str, object] = {name: value for name, value in new_values.items() if value is not None}
    if fallback_url is not None:
        changes["fallback_url"] = fallback_url or None
    if event_filter is not None:
        changes["filter"] = _parse_filter(event_filter)
    result = run_in_deployment(
        lambda deployment: deployment.webhooks().change(webhook_id, changes, actor=current_actor())
    )
    show(to_webhook(result, _now()), as_json)
    _warn_if_not_propagated(result)


@webhooks.command("secret")
def webhooks_secret(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Show the newest signing secret; the audit log records it."""
    secret = run_in_deployment(lambda deployment: deployment.secrets().show(webhook_id, actor=current_actor()))
    show({"secret": secret}, as_json)


@webhooks.command("rotate-secret")
def webhooks_rotate_secret(
    webhook_id: WebhookArgument,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="How long the old secret stays valid; 0: it ends now.")
    ] = DEFAULT_OVERLAP_HOURS,
    as_json: JsonOption = False,
) -> None:
    """Rotate the signing secret and show the new one."""
    result = run_in_deployment(
        lambda deployment: deployment.secrets().rotate(webhook_id, overlap_hours, actor=current_actor())
    )
    show(rotated_webhook(result, _now()), as_json)
    _warn_if_not_propagated(result.change)


@webhooks.command("finish-rotation")
def webhooks_finish_rotation(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """End the old signing secret now."""
    _show_change(
        run_in_deployment(lambda deployment: deployment.secrets().finish_rotation(webhook_id, actor=current_actor())),
        as_json,
    )


@webhooks.command("delete")
def webhooks_delete(webhook_id: WebhookArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Delete a webhook; deliveries that it was still owed become dead letters. Shows their number, and asks, first."""
    require_answer(yes, as_json)
    if not yes:
        _confirm_deletion(webhook_id)
    result = run_in_deployment(lambda deployment: deployment.webhooks().delete(webhook_id, actor=current_actor()))
    show({"id": webhook_id, "deleted": True, "propagated": result.propagated}, as_json)
    _warn_if_not_propagated(result)


def _confirm_deletion(webhook_id: str) -> None:
    async def find_webhook(deployment: SqlDeployment) -> tuple[str, int, int]:
        registration = await deployment.webhooks().find(webhook_id)
        counts = [
            (await deployment.deliveries().summary(DeliveryFilter(webhook_id=webhook_id, state=state))).count
            for state in (State.WAITING, State.HELD)
        ]
        return registration.webhook.url, counts[0], counts[1]

    url, waiting_count, held_count = run_in_deployment(find_webhook)
    say(f"{waiting_count} waiting and {held_count} held deliveries become dead letters")
    typer.confirm(escape_controls(f"Delete the webhook for {url}? This cannot be undone."), abort=True, err=True)


def _show_change(result: ChangeResult, as_json: bool) -> None:
    show(to_listed_webhook(result, _now()), as_json)
    _warn_if_not_propagated(result)


def _now() -> datetime:
    return datetime.now(UTC)


def _status_text(webhook: Mapping[str, Any]) -> str:
    return f"{webhook['status']} {webhook.get('pauseReason', '')}".rstrip()


def _warn_if_not_propagated(result: ChangeResult) -> None:
    if not result.propagated:
        say("stored, but not on the topic yet: is `publish` running?", err=True)


def _parse_filter(text: str | None) -> Any:
    return parse_filter_json(text) if text else None


def _parse_headers(lines: list[str] | tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid(FieldError("headers", f"{line!r} must have the form 'Name: value'"))
        headers[name.strip()] = value.strip()
    return headers
