"""Commands that send deliveries again: one, all that match a filter, or a webhook's period."""

from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.deliveries import (
    DELIVERY_HELP,
    DispatchOption,
    EventOption,
    LearnerOption,
    MetadataOption,
    OutcomeOption,
    PackageOption,
    ReasonOption,
    SessionOption,
    SinceOption,
    StateOption,
    TypeOption,
    UntilOption,
    WebhookOption,
    count_text,
    deliveries,
    find_delivery,
)
from scorm_webhooks_cli.jobs import Job, result_text, wait_for_jobs
from scorm_webhooks_cli.output import (
    JsonOption,
    OnlyAccountOption,
    YesOption,
    choice_option,
    parse_period,
    require_terminal_or_yes,
    show,
    without_none,
)
from scorm_webhooks_cli.pulls import webhooks
from scorm_webhooks_cli.text import say
from scorm_webhooks_cli.webhooks import WebhookArgument
from streams.core.deliveries.delivery import REPLAYABLE
from streams.core.errors import FieldError, Invalid

_NOTHING = "nothing to send; test events are left out"


@deliveries.command("retry")
def deliveries_retry(
    delivery_id: Annotated[
        str | None,
        typer.Argument(metavar="[DELIVERY]", help=DELIVERY_HELP),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every delivery that the options match; name at least one.")
    ] = False,
    account: OnlyAccountOption = None,
    webhook: WebhookOption = None,
    event: EventOption = None,
    event_type: TypeOption = None,
    state: StateOption = None,
    reason: ReasonOption = None,
    outcome: OutcomeOption = None,
    session: SessionOption = None,
    learner: LearnerOption = None,
    package: PackageOption = None,
    dispatch: DispatchOption = None,
    metadata: MetadataOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send a dead, delivered, discarded or waiting delivery again, with a fresh schedule.

    With --all: shows how many, asks, and waits for the job. Ctrl-C does not stop the job. Without --state it omits
    waiting deliveries. It omits test events.
    """
    chosen = without_none(
        webhookId=webhook,
        eventId=event,
        eventType=event_type,
        state=state,
        reason=reason,
        outcome=outcome,
        sessionId=session,
        learnerId=learner,
        packageId=package,
        dispatchId=dispatch,
        metadata=metadata,
        **parse_period(since, until),
    )
    if (delivery_id is None) != every or (delivery_id and chosen):
        raise Invalid(FieldError("DELIVERY", "give either a delivery, or --all with options that choose some"))
    if every:
        require_terminal_or_yes(yes, as_json)
    with open_api(account, needs_account=every) as api:
        if delivery_id:
            show(api.post("deliveries", find_delivery(api, delivery_id)["id"], "retry"), as_json)
            return
        count_result = api.post("deliveries", "retry", body={"filter": chosen, "countOnly": True})
        if not yes and not _confirm_retry(count_result):
            return
        # Deliveries that change after the count do not match.
        counted = {**chosen, "changedUntil": count_result["countedAt"]}
        _wait_for_job(api, api.post("deliveries", "retry", body={"filter": counted}), as_json)


def _confirm_retry(count_result: dict[str, Any]) -> bool:
    """Show how many match, and ask. False when there are none."""
    if not count_result["count"]:
        say(_NOTHING)
        return False
    at_least = "at least " if count_result["atLeast"] else ""
    matching, webhooks_text = _matching_text(count_result["count"]), count_text(count_result["webhooks"], "webhook")
    say(f"{at_least}{matching}, of {webhooks_text}, since {count_result['oldestAt']}")
    if lost := count_result["undeliverable"]:
        say(f"{lost} of them cannot be sent: their webhook is deleted")
    typer.confirm("Send them again?", abort=True, err=True)
    return True


@deliveries.command("replay")
def deliveries_replay(
    *,
    webhook: Annotated[
        str | None, typer.Argument(metavar="[WEBHOOK]", help="The webhook's id. Or name it by --webhook.")
    ] = None,
    webhook_option: Annotated[str | None, typer.Option("--webhook", help="The webhook's id.")] = None,
    since: Annotated[
        str, typer.Option(help="Only events that the platform first saw then or later: 2h, or 2026-04-10T14:32:00Z.")
    ],
    until: Annotated[str | None, typer.Option(help="Only events first seen before. Now by default.")] = None,
    event_types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type of event; may be repeated.")
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="May be repeated. By default delivered and dead.",
            **choice_option(REPLAYABLE),
        ),
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Also the events that it wants and has no delivery of.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the events of a period to a webhook again, with the same ids. Shows their number, and asks, first.

    Leaves out test events. Waits for the end of the job, which goes on after Ctrl-C.
    """
    webhook_id = webhook or webhook_option
    if webhook_id is None or (webhook and webhook_option):
        raise Invalid(FieldError("WEBHOOK", "give one webhook's id, as an argument or by --webhook"))
    require_terminal_or_yes(yes, as_json)
    replay = {
        **parse_period(since, until),
        "backfill": backfill,
        **({"eventTypes": event_types} if event_types else {}),
        **({"states": states} if states else {}),
    }
    with open_api() as api:
        path = "webhooks", webhook_id, "replays"
        if not yes:
            count_result = api.post(*path, body={**replay, "countOnly": True})
            if not _confirm_replay(count_result):
                return
            # The count and the start mean the same period.
            replay.setdefault("until", count_result["countedAt"])
        _wait_for_job(api, api.post(*path, body=replay), as_json)


@webhooks.command("retry-waiting")
def webhooks_retry_waiting(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Send all waiting deliveries now, for use after a repair. Each delivery gets a fresh schedule.

    Waits for the end of the job, which goes on after Ctrl-C.
    """
    with open_api() as api:
        _wait_for_job(api, api.post("webhooks", webhook_id, "retry-waiting"), as_json)


def _confirm_replay(count_result: dict[str, Any]) -> bool:
    """Show what would be sent, and ask. False when there is nothing."""
    count, missing = count_result["count"], count_result.get("missing")
    period_text = f", first seen from {count_result['oldestAt']} to {count_result['newestAt']}" if count else ""
    say(f"{_matching_text(count)}{period_text}")
    if missing:
        at_least_text = "at least " if missing["atLeast"] else ""
        since_text = f"; the topic has events since {oldest}" if (oldest := missing.get("oldestAvailable")) else ""
        say(f"{at_least_text}{missing['count']} events without a delivery{since_text}")
    if not count and not (missing and (missing["count"] or missing["atLeast"])):
        say(_NOTHING)
        return False
    if "estimatedSeconds" in count_result:
        say(f"about {max(1, round(count_result['estimatedSeconds']))} s at the endpoint's pace")
    typer.confirm("Send them again?", abort=True, err=True)
    return True


def _matching_text(count: int) -> str:
    return f"{count} {'delivery matches' if count == 1 else 'deliveries match'}"


def _wait_for_job(api: ApiClient, job: Job, as_json: bool) -> None:
    jobs = [job]
    wait_for_jobs(api, "sending again", jobs, is_quiet=as_json)
    if as_json:
        show(jobs[0], as_json)
    else:
        say(result_text(jobs, "to be sent again"))
