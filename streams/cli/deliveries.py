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
    LimitOption,
    YesOption,
    choice_option,
    current_actor,
    progress_bar,
    require_answer,
    run_in_deployment,
    show,
)
from streams.cli.text import say
from streams.core.accounts.account import DeliveryDetails, DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Conflict, FieldError, Invalid, NotFound
from streams.core.events.event import parse_pair
from streams.features.deliveries.service import AffectedIds, DeliveryService

if TYPE_CHECKING:
    from streams.runtime.bootstrap import SqlDeployment

# Of an attempt that succeeded nobody asks.
FAILED_OUTCOMES = tuple(kind for kind in OutcomeKind if kind is not OutcomeKind.DELIVERED)
MAX_IDS_SHOWN = 5

deliveries = typer.Typer(no_args_is_help=True)
dead_letters = typer.Typer(no_args_is_help=True)

AccountOption = Annotated[str | None, typer.Option(help="Only this account's.")]
WebhookOption = Annotated[str | None, typer.Option("--webhook", help="Only this webhook's.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only of this event.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only of this type of event.")]
ReasonOption = Annotated[DeathReason | None, typer.Option("--reason", help="Only dead letters with this reason.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show every column, uncut, as without a terminal.")]
OutcomeOption = Annotated[
    str | None,
    typer.Option("--outcome", help="Only with an attempt that failed in this way.", **choice_option(FAILED_OUTCOMES)),
]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="The deliveries' ids.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter that the options match.")]


@deliveries.command("list")
def deliveries_list(
    account: AccountOption = None,
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
    limit: LimitOption = 50,
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
    _list_deliveries(delivery_filter, as_json, wide)


DeliveryArgument = Annotated[
    str, typer.Argument(metavar="DELIVERY", help="The id of a delivery, or of an event that has one delivery.")
]


@deliveries.command("show")
def deliveries_show(delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
    """Show a delivery with its payload and its newest attempts."""

    async def find(deployment: "SqlDeployment") -> DeliveryDetails:
        return await deployment.deliveries().find(await _find_delivery_id(deployment, delivery_id))

    details = run_in_deployment(find)
    show(delivery_with_attempts(details), as_json)
    # The total may have one that was made after the list was read.
    if details.earlier_cursor:
        earlier_count = details.attempts_total - len(details.attempts)
        path = f"/v1/deliveries/{details.delivery_state.delivery_id}/attempts"
        say(f"{_count_text(earlier_count, 'earlier attempt')} not shown: see the dashboard, or GET {path}", err=True)


@deliveries.command("retry")
def deliveries_retry(delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
    """Send a delivery again with a fresh schedule: a dead, delivered or waiting one."""

    async def retry(deployment: "SqlDeployment") -> DeliveryState:
        return await deployment.deliveries().retry(
            await _find_delivery_id(deployment, delivery_id), actor=current_actor()
        )

    show(delivery_of(run_in_deployment(retry)), as_json)


async def _find_delivery_id(deployment: "SqlDeployment", id_text: str) -> str:
    """The id of a delivery, for its own id or for that of its event. Raises `Conflict` if there are several."""
    # First, because it costs one look-up; an event of any account costs one for each account.
    with suppress(NotFound):
        return (await deployment.deliveries().find(id_text)).delivery_state.delivery_id
    page = await deployment.deliveries().list(DeliveryFilter(event_id=id_text, limit=MAX_IDS_SHOWN))
    if len(page.rows) > 1:
        ids = ", ".join(row.delivery_id for row in page.rows)
        raise Conflict(
            f"the event {id_text} has more than one delivery, choose one: {ids}{', …' if page.next_cursor else ''}"
        )
    return page.rows[0].delivery_id if page.rows else id_text


@dead_letters.command("list")
def dead_letters_list(
    account: AccountOption = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = 50,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons, newest first."""
    delivery_filter = DeliveryFilter(account, webhook, event, State.DEAD, limit, event_type, reason)
    _list_deliveries(delivery_filter, as_json, wide)


@dead_letters.command("retry")
def dead_letters_retry(
    ids: IdsArgument = None,
    every: AllOption = False,
    account: AccountOption = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, oldest first, at the pace of their endpoints. Exit code 1 for an unknown id.

    With --all: shows their number, and asks, first.
    """
    delivery_filter = _to_delivery_filter(ids, every, account, webhook, event_type, reason)
    if every:
        delivery_filter = _confirm_filter(delivery_filter, "Send them again?", yes, as_json)
    _show_affected_ids(
        _act_with_progress("retrying", delivery_filter, DeliveryService.retry_dead_letters, as_json), "retried", as_json
    )


@dead_letters.command("discard")
def dead_letters_discard(
    ids: IdsArgument = None,
    every: AllOption = False,
    account: AccountOption = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Discard dead letters permanently. With --all: shows how many, and asks. Exit code 1 for an unknown id."""
    delivery_filter = _to_delivery_filter(ids, every, account, webhook, event_type, reason)
    if every:
        delivery_filter = _confirm_filter(delivery_filter, "Discard them? This cannot be undone.", yes, as_json)
    _show_affected_ids(
        _act_with_progress("discarding", delivery_filter, DeliveryService.discard_dead_letters, as_json),
        "discarded",
        as_json,
    )


def _to_delivery_filter(
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


def _confirm_filter(delivery_filter: DeliveryFilter, question: str, yes: bool, as_json: bool) -> DeliveryFilter:
    """Ask, unless the answer is given. What comes while the person reads was not in the count, and does not match."""
    require_answer(yes, as_json)
    delivery_filter = replace(delivery_filter, changed_until=datetime.now(UTC))
    if not yes:
        dead_filter = replace(delivery_filter, state=State.DEAD)
        summary = run_in_deployment(lambda deployment: deployment.deliveries().summary(dead_filter))
        letters_text, webhooks_text = (
            _count_text(summary.count, "dead letter"),
            _count_text(summary.webhooks, "webhook"),
        )
        say(f"{letters_text} of {webhooks_text} of {delivery_filter.account_id or 'every account'}")
        typer.confirm(question, abort=True, err=True)
    return delivery_filter


def _count_text(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _list_deliveries(delivery_filter: DeliveryFilter, as_json: bool, wide: bool) -> None:
    # Imported here: other commands need no tables.
    from streams.cli.delivery_table import show_deliveries

    page = run_in_deployment(lambda deployment: deployment.deliveries().list(delivery_filter))
    show_deliveries(page.rows, as_json, wide)


def _show_affected_ids(affected_ids: AffectedIds, verb: str, as_json: bool) -> None:
    if as_json:
        show(AffectedDeliveries.of(affected_ids), as_json)
    else:
        say(f"{len(affected_ids.ids)} {verb}")
    for unknown in affected_ids.unknown:
        say(f"error: there is no delivery {unknown}", err=True)
    if affected_ids.unknown:
        raise typer.Exit(1)


def _act_with_progress(
    message: str,
    delivery_filter: DeliveryFilter,
    act: Callable[..., Awaitable[AffectedIds]],
    is_quiet: bool,
) -> AffectedIds:
    with progress_bar(is_quiet=is_quiet) as progress:
        task_id = progress.add_task(message, total=None)
        return run_in_deployment(
            lambda deployment: act(
                deployment.deliveries(),
                delivery_filter,
                lambda count: progress.advance(task_id, count),
                actor=current_actor(),
            )
        )
