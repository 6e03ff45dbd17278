"""Commands for deliveries and dead letters."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.deliveries.models import AffectedDeliveries, delivery_of, delivery_with_attempts
from streams.cli.output import JsonOption, Limit, in_deployment, me, progress_bar, show
from streams.cli.text import say
from streams.core.account import DeliveryFilter
from streams.core.delivery import DeathReason, State
from streams.core.errors import FieldError, Invalid
from streams.core.outcome import OutcomeKind
from streams.features.deliveries.service import Affected, DeliveryService

if TYPE_CHECKING:
    from streams.cli.tables import Columns

deliveries = typer.Typer(no_args_is_help=True)
dead_letters = typer.Typer(no_args_is_help=True)

Account = Annotated[str | None, typer.Option(help="Only this account's.")]
WebhookOption = Annotated[str | None, typer.Option("--webhook", help="Only this webhook's.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only of this event.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only of this type of event.")]
ReasonOption = Annotated[DeathReason | None, typer.Option("--reason", help="Only dead letters with this reason.")]
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
    outcome: Annotated[OutcomeKind | None, typer.Option(help="Only with an attempt that failed in this way.")] = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first."""
    wanted = DeliveryFilter(
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
    )
    _list(wanted, as_json, {"state": _state})


DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]


@deliveries.command("show")
def deliveries_show(delivery_id: DeliveryId, as_json: JsonOption = False) -> None:
    """Show a delivery with its payload and its newest attempts."""
    seen = in_deployment(lambda deployment: deployment.deliveries().find(delivery_id))
    show(delivery_with_attempts(seen), as_json)
    if earlier := seen.attempts_total - len(seen.attempts):
        path = f"/v1/deliveries/{delivery_id}/attempts"
        say(f"{_count(earlier, 'earlier attempt')} not shown: see the dashboard, or GET {path}", err=True)


@deliveries.command("retry")
def deliveries_retry(delivery_id: DeliveryId, as_json: JsonOption = False) -> None:
    """Send a delivery again with a fresh schedule: a dead, delivered or waiting one."""
    show(delivery_of(in_deployment(lambda deployment: deployment.deliveries().retry(delivery_id, by=me()))), as_json)


@dead_letters.command("list")
def dead_letters_list(
    account: Account = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons, newest first."""
    wanted = DeliveryFilter(account, webhook, event, State.DEAD, limit, event_type, reason)
    _list(wanted, as_json, {"reason": "reason"})


@dead_letters.command("retry")
def dead_letters_retry(
    ids: Ids = None,
    every: All = False,
    account: Account = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, oldest first, at the pace of their endpoints. Exit code 1 for an unknown id."""
    wanted = _wanted(ids, every, account, webhook, event_type, reason)
    _show_affected(_with_progress("retrying", wanted, DeliveryService.retry_dead, as_json), "retried", as_json)


@dead_letters.command("discard")
def dead_letters_discard(
    ids: Ids = None,
    every: All = False,
    account: Account = None,
    webhook: WebhookOption = None,
    event_type: TypeOption = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --all: do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Discard dead letters for ever. With --all: shows their number, and asks, first. Exit code 1 for an unknown id."""
    wanted = _wanted(ids, every, account, webhook, event_type, reason)
    if every:
        # What comes while the person reads the question was not in its count.
        wanted = replace(wanted, changed_until=datetime.now(UTC))
    if every and not yes:
        if as_json:
            raise Invalid(FieldError("--json", "needs --yes: a program cannot answer the question"))
        _confirm_discard(wanted)
    _show_affected(_with_progress("discarding", wanted, DeliveryService.discard_dead, as_json), "discarded", as_json)


def _wanted(
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


def _confirm_discard(wanted: DeliveryFilter) -> None:
    dead = replace(wanted, state=State.DEAD)
    found = in_deployment(lambda deployment: deployment.deliveries().summary(dead))
    letters, webhooks = _count(found.count, "dead letter"), _count(found.webhooks, "webhook")
    say(f"{letters} of {webhooks} of {wanted.account_id or 'every account'}")
    typer.confirm("Discard them? This cannot be undone.", abort=True, err=True)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _list(wanted: DeliveryFilter, as_json: bool, first: "Columns") -> None:
    found = in_deployment(lambda deployment: deployment.deliveries().list(wanted))
    columns = {**first, "message": "message", "type": "eventType", "id": "id"}
    show([delivery_of(delivery_state) for delivery_state in found.rows], as_json, columns)


def _state(delivery: Mapping[str, Any]) -> str:
    """The state with its tier or reason: `waiting 30s`, `held paused`."""
    of = {State.WAITING: "tier", State.HELD: "reason"}.get(delivery["state"], "")
    return f"{delivery['state']} {delivery.get(of, '')}".rstrip()


def _show_affected(affected: Affected, done: str, as_json: bool) -> None:
    if as_json:
        show(AffectedDeliveries.of(affected), as_json)
    else:
        say(f"{len(affected.ids)} {done}")
    for unknown in affected.unknown:
        say(f"error: there is no delivery {unknown}", err=True)
    if affected.unknown:
        raise typer.Exit(1)


def _with_progress(
    message: str,
    wanted: DeliveryFilter,
    act: Callable[..., Awaitable[Affected]],
    quiet: bool,
) -> Affected:
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task(message, total=None)
        return in_deployment(
            lambda deployment: act(
                deployment.deliveries(), wanted, lambda count: progress.advance(task, count), by=me()
            )
        )
