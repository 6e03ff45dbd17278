"""Commands for webhooks."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.output import (
    AccountOption,
    JsonOption,
    OnlyAccountOption,
    YesOption,
    require_terminal_or_yes,
    show,
    without_none,
)
from scorm_webhooks_cli.text import hint, is_quiet, say
from streams.core.deliveries.delivery import State
from streams.core.deliveries.held import HeldChoice
from streams.core.errors import FieldError, Invalid, ScormWebhooksError
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES
from streams.core.events.event_filter import parse_filter_json
from streams.core.limits import (
    DEFAULT_OVERLAP_HOURS,
    MAX_OVERLAP_HOURS,
)
from streams.core.text import escape_controls
from streams.core.webhooks.delivery_options import PauseAfter
from streams.core.webhooks.field_rules import Kind, to_camel_case
from streams.core.webhooks.webhook import DeliveryMode, PauseReason, pause_cause
from streams.core.webhooks.webhook_input import FIELD_RULES

webhooks = typer.Typer(no_args_is_help=True)
_EVENTS_HELP = (
    f"Event types, comma-separated: {', '.join(EVENT_TYPES)}; or *: all but {' and '.join(sorted(OPT_IN_TYPES))}."
)
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=JSON", help="Any field of the API: maxConcurrency=5. May be repeated."),
]
RetriesOption = Annotated[
    str | None, typer.Option(help="The wait before each retry, comma-separated, such as 30s,2m,1h; '' for no retry.")
]
FILTER_EXAMPLE = '{"successStatus": "passed"}'


@webhooks.command("create")
def webhooks_create(
    url: Annotated[str | None, typer.Option(help="URL of the endpoint.")] = None,
    pull: Annotated[bool, typer.Option("--pull", help="No URL: readers pull the events.")] = False,
    account: AccountOption = None,
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
    retries: RetriesOption = None,
    fields: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a webhook and show its signing secret."""
    if (url is None) is not pull:
        raise Invalid(FieldError("--url", "is required: the URL of the endpoint; or --pull, for readers without one"))
    webhook = {
        **({"delivery": DeliveryMode.PULL} if pull else {"url": url}),
        "events": _parse_list(events),
        "description": description,
        "packages": package or [],
        "dispatches": dispatch or [],
        "headers": _parse_headers(header or ()),
        "fallbackHeaders": _parse_headers(fallback_header or ()),
        "maxConcurrency": max_concurrency,
        **without_none(fallbackUrl=fallback_url, filter=_parse_filter(event_filter), retries=_parse_list(retries)),
        **_parse_fields(fields or ()),
    }
    with open_api(account, needs_account=True) as api:
        _show_change(api.post("webhooks", body=webhook), as_json)


@webhooks.command("list")
def webhooks_list(
    account: OnlyAccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the webhooks, newest first."""
    with open_api(account) as api:
        rows, of_all = api.rows("webhooks"), api.is_for_all
    columns = {"account": "accountId"} if of_all else {"events": "events", "description": "description"}
    show(rows, as_json, {"status": _status_text, "url": lambda row: row.get("url") or "(pull)", **columns, "id": "id"})
    if not as_json and any(map(_is_paused_automatically, rows)):
        hint("To end a pause, repair the endpoint, then `webhooks enable ID`: it sends what is held.")


@webhooks.command("source-addresses")
def webhooks_source_addresses(as_json: JsonOption = False) -> None:
    """List the addresses that requests to endpoints come from, and their User-Agent, for your firewall."""
    with open_api() as api:
        source = api.get("source-addresses")
        agent = {"userAgent": source["userAgent"]}
        rows = [{"address": address, **agent} for address in source["addresses"]]
    show(source if as_json else rows or [agent], as_json)


WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]


@webhooks.command("show")
def webhooks_show(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Show a webhook."""
    with open_api() as api:
        show(api.get("webhooks", webhook_id), as_json)


@webhooks.command("pause")
def webhooks_pause(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Pause a webhook: no requests are sent, and its deliveries are held."""
    with open_api() as api:
        _show_change(api.post("webhooks", webhook_id, "pause"), as_json)


@webhooks.command("enable")
def webhooks_enable(
    webhook_id: WebhookArgument,
    held: Annotated[
        HeldChoice, typer.Option(help="What happens to held deliveries: deliver, keep as dead letters, or discard.")
    ] = HeldChoice.DELIVER,
    as_json: JsonOption = False,
) -> None:
    """Enable a webhook. It begins without failures.

    After an automatic pause it shows the reason, and sends a test event to see whether the endpoint works now.
    """
    is_explained = not (as_json or is_quiet())
    with open_api() as api:
        health = api.get("webhooks", webhook_id, "health") if is_explained else {}
        webhook = api.post("webhooks", webhook_id, "enable", body={"held": held})
        _show_change(webhook, as_json)
        if _is_paused_automatically(health):
            _explain_pause(api, webhook, health)


def _explain_pause(api: ApiClient, webhook: Mapping[str, Any], health: Mapping[str, Any]) -> None:
    """Show why a webhook was paused, whether its endpoint works now, and after several pauses how to have fewer."""
    last_failure = f" The last one: {health['lastFailure']}" if "lastFailure" in health else ""
    hint(f"It was paused {_pause_cause({**webhook, **health})}.{last_failure}")
    try:
        delivery = api.post("webhooks", webhook["id"], "test", body={})
    except ScormWebhooksError as error:
        hint(f"Whether its endpoint works now is not known: {error}")
    else:
        hint(_test_text(delivery, webhook))
    path = ("audit",) if api.is_for_all else ("account", "audit")
    if len(api.rows(*path, limit=2, objectId=webhook["id"], action="webhook.enabled")) > 1:
        limit = """--set 'pauseAfter={"failures": 20, "minutes": 30}'"""
        hint(f"It was paused before. To let it bear short outages: `webhooks update {webhook['id']} {limit}`")


def _test_text(delivery: Mapping[str, Any], webhook: Mapping[str, Any]) -> str:
    if delivery["state"] == State.DELIVERED:
        return "Its endpoint works: it accepted a test event."
    message, url = delivery.get("message", ""), webhook.get("url", "")
    return f"Its endpoint does not work yet: {message} Repair it, or it is paused again; `doctor {url}` checks the way."


@webhooks.command("test")
def webhooks_test(
    webhook_id: WebhookArgument,
    event: Annotated[
        str | None, typer.Option(help=f"The event type: {', '.join(EVENT_TYPES)}. Default: one that the webhook wants.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one test event, even to a paused webhook, and show the response. Exit code 1 if it was not delivered.

    A test of a pull webhook waits for a reader.
    """
    with open_api() as api:
        delivery = api.post("webhooks", webhook_id, "test", body=without_none(type=event))
    show(delivery, as_json)
    is_for_readers = (delivery["state"], delivery.get("reason")) == ("held", "pull")
    if delivery["state"] != "delivered" and not is_for_readers:
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
    retries: RetriesOption = None,
    fields: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a webhook; options that are not given do not change. A new URL begins without failures."""
    changes = without_none(
        url=url,
        events=_parse_list(events),
        description=description,
        packages=[text for text in package if text] if package else None,
        dispatches=[text for text in dispatch if text] if dispatch else None,
        headers=_parse_headers([text for text in header if text]) if header else None,
        fallbackHeaders=_parse_headers([text for text in fallback_header if text]) if fallback_header else None,
        maxConcurrency=max_concurrency,
        retries=_parse_list(retries),
    )
    if fallback_url is not None:
        changes["fallbackUrl"] = fallback_url or None
    if event_filter is not None:
        changes["filter"] = _parse_filter(event_filter)
    changes |= _parse_fields(fields or ())
    with open_api() as api:
        _show_change(api.patch("webhooks", webhook_id, body=changes), as_json)


@webhooks.command("secret")
def webhooks_secret(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Show the newest signing secret; the audit log records it."""
    with open_api() as api:
        show(api.post("webhooks", webhook_id, "secret"), as_json)


@webhooks.command("rotate-secret")
def webhooks_rotate_secret(
    webhook_id: WebhookArgument,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="How long the old secret stays valid; 0: it ends now.")
    ] = DEFAULT_OVERLAP_HOURS,
    as_json: JsonOption = False,
) -> None:
    """Rotate the signing secret and show the new one."""
    body = {"overlapHours": overlap_hours}
    with open_api() as api:
        _show_change(api.post("webhooks", webhook_id, "secret", "rotate", body=body), as_json)


@webhooks.command("finish-rotation")
def webhooks_finish_rotation(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """End the old signing secret now."""
    with open_api() as api:
        _show_change(api.post("webhooks", webhook_id, "secret", "finish-rotation"), as_json)


@webhooks.command("delete")
def webhooks_delete(webhook_id: WebhookArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Delete a webhook; its pending deliveries become dead letters. Shows their number, and asks, first."""
    require_terminal_or_yes(yes, as_json)
    with open_api() as api:
        if not yes:
            _confirm_deletion(api, webhook_id)
        api.delete("webhooks", webhook_id)
    show({"id": webhook_id, "deleted": True}, as_json)


def _confirm_deletion(api: ApiClient, webhook_id: str) -> None:
    webhook = api.get("webhooks", webhook_id)
    title = webhook.get("url") or webhook["description"] or webhook_id
    unfinished = api.get("webhooks", webhook_id, "stats", hours=1)["unfinished"]
    waiting_count, held_count = (
        sum(row["count"] for row in unfinished if row["state"] == state) for state in ("waiting", "held")
    )
    say(f"{waiting_count} waiting and {held_count} held deliveries become dead letters")
    typer.confirm(escape_controls(f"Delete the webhook for {title}? This cannot be undone."), abort=True, err=True)


def _show_change(webhook: Mapping[str, Any], as_json: bool) -> None:
    show(webhook, as_json)
    if not webhook.get("propagated", True):
        hint("stored, but not on the topic yet: is `publish` running?")


def _status_text(webhook: Mapping[str, Any]) -> str:
    return f"paused {_pause_cause(webhook)}" if "pauseReason" in webhook else str(webhook["status"])


def _is_paused_automatically(webhook: Mapping[str, Any]) -> bool:
    return "pauseReason" in webhook and PauseReason(webhook["pauseReason"]).is_automatic


def _pause_cause(webhook: Mapping[str, Any]) -> str:
    return pause_cause(PauseReason(webhook["pauseReason"]), PauseAfter(**webhook["pauseAfter"]))


def _parse_list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _parse_filter(text: str | None) -> Any:
    return parse_filter_json(text) if text else None


_TEXTS = {to_camel_case(name) for name, rule in FIELD_RULES.items() if rule.kind is Kind.TEXT}


def _parse_fields(texts: Sequence[str]) -> dict[str, Any]:
    """The fields of `--set`. A value that is not JSON is a text, and so is a number for a text field."""
    fields: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Invalid(FieldError("--set", f"{text!r} must have the form FIELD=JSON, such as maxConcurrency=5"))
        try:
            fields[name] = json.loads(value)
        except (ValueError, RecursionError):
            fields[name] = value
        if name in _TEXTS and not isinstance(fields[name], str):
            fields[name] = value
    return fields


def _parse_headers(lines: Sequence[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid(FieldError("headers", f"{line!r} must have the form 'Name: value'"))
        headers[name.strip()] = value.strip()
    return headers
