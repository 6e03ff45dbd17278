"""Commands for deliveries and dead letters."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.jobs import Job, report_unfinished_jobs, result_text, wait_for_jobs
from scorm_webhooks_cli.output import (
    JsonOption,
    LimitOption,
    OnlyAccountOption,
    YesOption,
    choice_option,
    parse_period,
    require_terminal_or_yes,
    show,
    without_none,
)
from scorm_webhooks_cli.text import hint, say
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Conflict, FieldError, Invalid, NotFound, ScormWebhooksError
from streams.core.ids import is_short_id
from streams.core.page import MAX_PAGE_ROWS

# `--state delivered` finds deliveries that succeeded.
FAILED_OUTCOMES = tuple(kind for kind in OutcomeKind if kind is not OutcomeKind.DELIVERED)
MAX_IDS_SHOWN = 5

DELIVERY_HELP = "Its id, in full or as the list shows it; or the id of an event that has one delivery."

deliveries = typer.Typer(no_args_is_help=True)
dead_letters = typer.Typer(no_args_is_help=True)

WebhookOption = Annotated[str | None, typer.Option("--webhook", help="Only this webhook's.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only deliveries of this event.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only deliveries of this event type.")]
ReasonOption = Annotated[DeathReason | None, typer.Option("--reason", help="Only dead letters with this reason.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show all columns, in full.")]
OutcomeOption = Annotated[
    str | None,
    typer.Option("--outcome", help="Only with an attempt that failed in this way.", **choice_option(FAILED_OUTCOMES)),
]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="Their ids, or those of their events.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter that the options match.")]
StateOption = Annotated[State | None, typer.Option("--state", help="Only in this state.")]
SessionOption = Annotated[str | None, typer.Option("--session", help="Only of events of this session.")]
LearnerOption = Annotated[str | None, typer.Option("--learner", help="Only of events of this learner.")]
PackageOption = Annotated[str | None, typer.Option("--package", help="Only of events of this package.")]
DispatchOption = Annotated[str | None, typer.Option("--dispatch", help="Only of events of this dispatch.")]
MetadataOption = Annotated[
    str | None, typer.Option("--metadata", metavar="NAME=TEXT", help="Only of events with this metadata entry.")
]

SinceOption = Annotated[
    str | None, typer.Option(help="Only those first seen then or later: 2h, or 2026-04-10T14:32:00Z.")
]
UntilOption = Annotated[str | None, typer.Option(help="Only those first seen before.")]


@deliveries.command("list")
def deliveries_list(
    account: OnlyAccountOption = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    state: StateOption = None,
    session: SessionOption = None,
    learner: LearnerOption = None,
    package: PackageOption = None,
    dispatch: DispatchOption = None,
    metadata: MetadataOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first."""
    query = {
        "webhookId": webhook,
        "eventId": event,
        "eventType": event_type,
        "state": state,
        "sessionId": session,
        "learnerId": learner,
        "packageId": package,
        "dispatchId": dispatch,
        "metadata": metadata,
        "outcome": outcome,
        **parse_period(since, until),
    }
    _list_deliveries(account, "deliveries", query, limit, as_json, wide)


DeliveryArgument = Annotated[str, typer.Argument(metavar="DELIVERY", help=DELIVERY_HELP)]


@deliveries.command("show")
def deliveries_show(delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
    """Show a delivery with its payload and its newest attempts."""
    with open_api() as api:
        delivery = find_delivery(api, delivery_id)
    show(delivery, as_json)
    # The total may include an attempt that was stored after the list was read.
    if "earlierAttemptsCursor" in delivery:
        earlier_count = delivery["attemptsTotal"] - len(delivery["attempts"])
        path = f"/v1/deliveries/{delivery['id']}/attempts"
        hint(f"{count_text(earlier_count, 'earlier attempt')} not shown: see the dashboard, or GET {path}")


def find_delivery(api: ApiClient, id_text: str) -> dict[str, Any]:
    """Find a delivery by its id, its short id or its event's id. Raises `NotFound`, or `Conflict` for several."""
    # First by its id: one look-up. By event id it takes one for each account.
    with suppress(NotFound):
        return dict(api.get("deliveries", id_text))
    return dict(api.get("deliveries", _find_id(api, "deliveries", id_text)))


def _find_id(api: ApiClient, path: str, id_text: str) -> str:
    """The id of the one delivery of a list with this short id, or of this event. Raises `NotFound` and `Conflict`."""
    queries = ({"shortId": id_text}, {"eventId": id_text}) if is_short_id(id_text) else ({"eventId": id_text},)
    for query in queries:
        page = api.get(path, **query, limit=MAX_IDS_SHOWN)
        rows = page["data"]
        if len(rows) == 1:
            return str(rows[0]["id"])
        if rows:
            choices = ", ".join(f"{row['id']} (webhook {row['webhookId']})" for row in rows)
            more = ", …" if "nextCursor" in page else ""
            raise Conflict(f"{id_text} has several deliveries; use the id of one: {choices}{more}")
    raise NotFound(f"there is no {_NAMES[path]} {id_text}, and no event {id_text} that has one")


_NAMES = {"deliveries": "delivery", "dead-letters": "dead letter"}


@dead_letters.command("list")
def dead_letters_list(
    account: OnlyAccountOption = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = 50,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons, newest first."""
    query = {"webhookId": webhook, "eventId": event, "eventType": event_type, "reason": reason}
    _list_deliveries(account, "dead-letters", query, limit, as_json, wide)


_ALL_HELP = "With --all: shows how many, asks, and waits for the job. Ctrl-C does not stop the job."
_HELP = {
    "retry": f"Send dead letters again, at the pace of their endpoints. Exit code 1 for an unknown id. {_ALL_HELP}",
    "discard": f"Discard dead letters permanently. Exit code 1 for an unknown id. {_ALL_HELP}",
}
_QUESTIONS = {"retry": "Send them again?", "discard": "Discard them? This cannot be undone."}
_PROGRESS_LABELS = {"retry": "retrying", "discard": "discarding"}
_PAST_VERBS = {"retry": "retried", "discard": "discarded"}


def _add_action(action: str) -> None:
    @dead_letters.command(action, help=_HELP[action])
    def act(
        ids: IdsArgument = None,
        every: AllOption = False,
        account: OnlyAccountOption = None,
        webhook: WebhookOption = None,
        event_type: TypeOption = None,
        reason: ReasonOption = None,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        filters = without_none(webhookId=webhook, eventType=event_type, reason=reason)
        if bool(ids) == every or (ids and filters):
            raise Invalid(FieldError("DELIVERY", "give either delivery ids, or --all with filter options"))
        if every:
            require_terminal_or_yes(yes, as_json)
        with open_api(account) as api:
            if ids:
                _show_affected(_act_on_ids(api, action, ids), action, as_json)
            else:
                _act_on_all(api, action, account, filters, yes, as_json)


_add_action("retry")
_add_action("discard")


def _act_on_all(
    api: ApiClient, action: str, account: str | None, filters: dict[str, object], yes: bool, as_json: bool
) -> None:
    scope = account or ("all accounts" if api.is_for_all else "this account")
    count_result = api.post("dead-letters", action, body={"filter": filters, "countOnly": True})
    # Dead letters that arrive after the count do not match.
    filters["changedUntil"] = count_result["countedAt"]
    if not yes:
        _confirm(action, scope, count_result)
    jobs: list[Job] = []
    is_complete = True
    with report_unfinished_jobs(jobs):
        if count_result["count"]:
            is_complete = _start_jobs(api, action, filters, jobs)
    wait_for_jobs(api, _PROGRESS_LABELS[action], jobs, is_quiet=as_json)
    if as_json:
        show(jobs, as_json)
    else:
        say(result_text(jobs, _PAST_VERBS[action]))
    if not is_complete:
        raise typer.Exit(1)


def _act_on_ids(api: ApiClient, action: str, id_texts: list[str]) -> dict[str, list[str]]:
    """Act on dead letters. Other ids than a delivery's are looked up: short ids, and ids of events."""
    affected = _send_ids(api, action, id_texts)
    found_ids, unknown = [], []
    for id_text in affected["unknown"]:
        try:
            found_ids.append(_find_id(api, "dead-letters", id_text))
        except (NotFound, Conflict) as error:
            say(f"error: {error}", err=True)
            unknown.append(id_text)
    found = _send_ids(api, action, found_ids)
    return {"ids": affected["ids"] + found["ids"], "unknown": unknown}


def _send_ids(api: ApiClient, action: str, ids: list[str]) -> dict[str, list[str]]:
    affected: dict[str, list[str]] = {"ids": [], "unknown": []}
    for start_index in range(0, len(ids), MAX_PAGE_ROWS):
        try:
            portion = api.post("dead-letters", action, body={"ids": ids[start_index : start_index + MAX_PAGE_ROWS]})
        except ScormWebhooksError:
            if start_index:
                say(f"{len(affected['ids'])} of the first {start_index} ids {_PAST_VERBS[action]}", err=True)
            raise
        affected = {name: affected[name] + portion[name] for name in affected}
    return affected


def _confirm(action: str, scope: str, count_result: Mapping[str, int]) -> None:
    letters, webhooks = (
        count_text(count_result["count"], "dead letter"),
        count_text(count_result["webhooks"], "webhook"),
    )
    say(f"{letters} of {webhooks} in {scope}")
    typer.confirm(_QUESTIONS[action], abort=True, err=True)


def _start_jobs(api: ApiClient, action: str, filters: dict[str, object], jobs: list[Job]) -> bool:
    """Start a job in each account with such dead letters, and add it to `jobs`. False if an account was skipped."""
    body, is_complete = {"filter": filters}, True
    if not api.is_for_all:
        jobs.append(api.post("dead-letters", action, body=body))
        return is_complete
    for account_id in _find_account_ids(api, filters):
        api.act_for(account_id)
        try:
            if api.post("dead-letters", action, body={**body, "countOnly": True})["count"]:
                jobs.append(api.post("dead-letters", action, body=body))
        except Conflict as error:
            is_complete = False
            say(f"error: account {account_id} is skipped: {error}", err=True)
    api.act_for_every_account()
    return is_complete


def _find_account_ids(api: ApiClient, filters: dict[str, object]) -> list[str]:
    """The accounts that may have dead letters that match the filters."""
    if "webhookId" not in filters:
        return [row["id"] for row in api.rows("accounts")]
    # The webhook may be deleted. Then only its dead letters still name its account.
    page = api.get("dead-letters", webhookId=filters["webhookId"], limit=1)
    return [row["accountId"] for row in page["data"]]


def count_text(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _list_deliveries(
    account: str | None, path: str, query: Mapping[str, object], limit: int, as_json: bool, wide: bool
) -> None:
    # Imported here: other commands need no tables.
    from scorm_webhooks_cli.delivery_table import show_deliveries

    with open_api(account) as api:
        rows = api.rows(path, limit=limit, **query)
    show_deliveries(rows, as_json, wide)


def _show_affected(affected: dict[str, list[str]], action: str, as_json: bool) -> None:
    if as_json:
        show(affected, as_json)
    else:
        say(f"{len(affected['ids'])} {_PAST_VERBS[action]}")
    if affected["unknown"]:
        raise typer.Exit(1)
