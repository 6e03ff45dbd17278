"""Commands for deliveries and dead letters."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from api.deliveries.models import AffectedDeliveries, delivery_of, delivery_with_attempts
from streams.cli.output import (
    JsonOption,
    Limit,
    YesOption,
    in_deployment,
    me,
    one_of,
    progress_bar,
    require_answer,
    show,
)
from streams.cli.text import say
from streams.core.account import DeliveryDetails, DeliveryFilter
from streams.core.delivery import DeathReason, State
from streams.core.delivery_state import DeliveryState
from streams.core.errors import Conflict, FieldError, Invalid, NotFound
from streams.core.event import parse_pair
from streams.core.outcome import OutcomeKind
from streams.features.deliveries.service import AffectedIds, DeliveryService

if TYPE_CHECKING:
    from streams.runtime.bootstrap import SqlDeployment

# Of an attempt that succeeded nobody asks.
FAILURES = tuple(kind for kind in OutcomeKind if kind is not OutcomeKind.DELIVERED)
MAX_IDS_SHOWN = 5

deliveries = typer.Typer(no_args_is_help=True)
dead_letters = typer.Typer(no_args_is_help=True)

Account = Annotated[str | None, typer.Option(help="Only this account's.")]
WebhookOption = Annotated[str | None, typer.Option("--webhook", help="Only this webhook's.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only of this event.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only of this type of event.")]
ReasonOption = Annotated[DeathReason | None, typer.Option("--reason", help="Only dead letters with this reason.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show every column, uncut, as without a terminal.")]
OutcomeOption = Annotated[
    str | None,
    typer.Option("--outcome", help="Only with an attempt that failed in this way.", **one_of(FAILURES)),
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="The deliveries' ids.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter that the options match.")]


@deliveries.command("list")
def deliveries_list(
    account: Account = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    session: Annotated[str | None, typer.Option(help="Only of events of this session.")] = None,
    learner: Annotated[str | None, typer.Option(help="Only of events of this learner.")] = None,
    package: Annotated[str | None, typer.Option(help="Only of events of this package.")] = None,
    dispatch: Annotated[str | None, typer.Option(help="Only of events of this dispatch.")] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="NAME=TEXT", help="Only of events with this pair of metadata.")
    ] = None,
    outcome: OutcomeOption = None,
    limit: Limit = 50,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first."""
    delivery_filter = DeliveryFilter(
        account,
        webhook,
        event,
        state,
        limit,
        event_type,
        session_id=session,
        learner_id=learner,
        package_id=package,
        dispatch_id=dispatch,
        outcome=outcome,
        metadata=None if metadata is None else parse_pair(metadata),
    )
    _list(delivery_filter, as_json, wide)


DeliveryId = Annotated[
    str, typer.Argument(metavar="DELIVERY", help="The id of a delivery, or of an event that has one delivery.")
]


@deliveries.command("show")
def deliveries_show(delivery_id: DeliveryId, as_json: JsonOption = False) -> None:
    """Show a delivery with its payload and its newest attempts."""

    async def find(deployment: "SqlDeployment") -> DeliveryDetails:
        return await deployment.deliveries().find(await _to_delivery_id(deployment, delivery_id))

    details = in_deployment(find)
    show(delivery_with_attempts(details), as_json)
    if earlier_count := details.attempts_total - len(details.attempts):
        path = f"/v1/deliveries/{details.delivery_state.delivery_id}/attempts"
        say(f"{_count(earlier_count, 'earlier attempt')} not shown: see the dashboard, or GET {path}", err=True)


@deliveries.command("retry")
def deliveries_retry(delivery_id: DeliveryId, as_json: JsonOption = False) -> None:
    """Send a delivery again with a fresh schedule: a dead, delivered or waiting one."""

    async def retry(deployment: "SqlDeployment") -> DeliveryState:
        return await deployment.deliveries().retry(await _to_delivery_id(deployment, delivery_id), actor=me())

    show(delivery_of(in_deployment(retry)), as_json)


async def _to_delivery_id(deployment: "SqlDeployment", text: str) -> str:
    """The id of a delivery, for its own id or for that of its event. Raises `Conflict` if there are several."""
    # First, because it costs one look-up; an event of any account costs one for each account.
    with suppress(NotFound):
        return (await deployment.deliveries().find(text)).delivery_state.delivery_id
    page = await deployment.deliveries().list(DeliveryFilter(event_id=text, limit=MAX_IDS_SHOWN))
    if len(page.rows) > 1:
        ids = ", ".join(row.delivery_id for row in page.rows)
        raise Conflict(
            f"the event {text} has more than one delivery, choose one: {ids}{', …' if page.next_cursor else ''}"
        )
    return page.rows[0].delivery_id if page.rows else text


@dead_letters.command("list")
def dead_letters_list(
    account: Account = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    limit: Limit = 50,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons, newest first."""
    delivery_filter = DeliveryFilter(account, webhook, event, State.DEAD, limit, event_type, reason)
    _list(delivery_filter, as_json, wide)


@dead_letters.command("retry")
def dead_letters_retry(
    ids: Ids = None,
    every: All = False,
    account: Account = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, oldest first, at the pace of their endpoints. Exit code 1 for an unknown id.

    With --all: shows their number, and asks, first.
    """
    delivery_filter = _delivery_filter(ids, every, account, webhook, event_type, reason)
    if every:
        delivery_filter = _confirmed(delivery_filter, "Send them again?", yes, as_json)
    _show_affected(
        _with_progress("retrying", delivery_filter, DeliveryService.retry_dead_letters, as_json), "retried", as_json
    )


@dead_letters.command("discard")
def dead_letters_discard(
    ids: Ids = None,
    every: All = False,
    account: Account = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Discard dead letters for ever. With --all: shows their number, and asks, first. Exit code 1 for an unknown id."""
    delivery_filter = _delivery_filter(ids, every, account, webhook, event_type, reason)
    if every:
        delivery_filter = _confirmed(delivery_filter, "Discard them? This cannot be undone.", yes, as_json)
    _show_affected(
        _with_progress("discarding", delivery_filter, DeliveryService.discard_dead_letters, as_json),
        "discarded",
        as_json,
    )


def _delivery_filter(
    ids: list[str] | None,
    every: bool,
    account: str | None,
    webhook: str | None,
    event_type: str | None,
    reason: DeathReason | None,
) -> DeliveryFilter:
    if bool(ids) == every:
        raise Invalid(FieldError("DELIVERY", "give ids of deliveries, or --all (with options that filter them)"))
    return DeliveryFilter(account, webhook, event_type=event_type, reason=reason, ids=ids or None)


def _confirmed(delivery_filter: DeliveryFilter, question: str, yes: bool, as_json: bool) -> DeliveryFilter:
    """Ask, unless the answer is given. What comes while the person reads was not in the count, and does not match."""
    require_answer(yes, as_json)
    delivery_filter = replace(delivery_filter, changed_until=datetime.now(UTC))
    if not yes:
        dead = replace(delivery_filter, state=State.DEAD)
        summary = in_deployment(lambda deployment: deployment.deliveries().summary(dead))
        letters, webhooks = _count(summary.count, "dead letter"), _count(summary.webhooks, "webhook")
        say(f"{letters} of {webhooks} of {delivery_filter.account_id or 'every account'}")
        typer.confirm(question, abort=True, err=True)
    return delivery_filter


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _list(delivery_filter: DeliveryFilter, as_json: bool, wide: bool) -> None:
    # Imported here: other commands need no tables.
    from streams.cli.delivery_table import show_deliveries

    page = in_deployment(lambda deployment: deployment.deliveries().list(delivery_filter))
    show_deliveries(page.rows, as_json, wide)


def _show_affected(affected: AffectedIds, verb: str, as_json: bool) -> None:
    if as_json:
        show(AffectedDeliveries.of(affected), as_json)
    else:
        say(f"{len(affected.ids)} {verb}")
    for unknown in affected.unknown:
        say(f"error: there is no delivery {unknown}", err=True)
    if affected.unknown:
        raise typer.Exit(1)


def _with_progress(
    message: str,
    delivery_filter: DeliveryFilter,
    act: Callable[..., Awaitable[AffectedIds]],
    quiet: bool,
) -> AffectedIds:
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(message, total=None)
        return in_deployment(
            lambda deployment: act(
                deployment.deliveries(), delivery_filter, lambda count: progress.advance(task, count), actor=me()
            )
        )
