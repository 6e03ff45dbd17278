"""Compare what a webhook was sent with what its receiver has."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.output import JsonOption, parse_period, progress_bar, show
from scorm_webhooks_cli.text import hint
from streams.core.deliveries.delivery import State
from streams.core.errors import FieldError, Invalid
from streams.core.page import MAX_PAGE_ROWS

Row = Mapping[str, Any]
_COLUMNS = {"event": "eventId", "type": "eventType", "sequence": "sequence", "delivered": "changedAt"}


def reconcile(
    webhook: Annotated[str, typer.Option(help="The webhook's id.")],
    since: Annotated[
        str | None, typer.Option(help="Only events first seen then or later: 2h, or 2026-04-10T14:32:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only events first seen before.")] = None,
    is_retry: Annotated[
        bool, typer.Option("--retry", help="Send the missing events again, with the same ids.")
    ] = False,
    is_confirmed: Annotated[
        bool, typer.Option("--yes", help="With --retry: also if every delivered event is missing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print delivered events that your receiver does not have.

    Standard input has the ids of the receiver's events, one a line, or the first column of a CSV file. Exit code 1 if
    some are missing and are not sent again.

    Example: `scorm-webhooks reconcile --webhook wh_1 < ids.txt`
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise Invalid(FieldError("standard input", "must have the ids of the receiver's events, one a line"))
    period: dict[str, Any] = parse_period(since, until)
    received_ids = set(_parse_ids(_read_input()))
    with open_api() as api, progress_bar(is_disabled=as_json) as progress:
        task_id = progress.add_task("comparing", total=None)
        missing: list[Row] = []
        delivered_count = 0
        for page in api.pages("webhooks", webhook, "deliveries", "summary", **period):
            delivered = [row for row in page if row["state"] == State.DELIVERED]
            delivered_count += len(delivered)
            missing += [row for row in delivered if row["eventId"] not in received_ids]
            progress.update(task_id, advance=len(page))
        if is_retry and not is_confirmed and len(missing) == delivered_count > 0:
            message = f"has none of the {delivered_count} delivered events. If it is the right file, add --yes"
            raise Invalid(FieldError("standard input", message))
        retried_count = sum(_retry(api, missing)) if is_retry else 0
    if as_json or missing:
        show(missing, as_json, _COLUMNS)
    hint(_result_text(delivered_count, len(missing), retried_count if is_retry else None))
    if len(missing) > retried_count:
        raise typer.Exit(1)


def _read_input() -> list[str]:
    """The lines of standard input. Raises `Invalid` if it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Invalid(FieldError("standard input", "must be in UTF-8")) from None


def _parse_ids(lines: Iterable[str]) -> Iterator[str]:
    """The first word of each line, up to a comma: the first column of a CSV file."""
    for line in lines:
        if text := line.partition(",")[0].strip().strip('"'):
            yield text


def _retry(api: ApiClient, rows: Sequence[Row]) -> Iterator[int]:
    """Send these deliveries again, in portions. Yields how many of each portion are sent."""
    for start in range(0, len(rows), MAX_PAGE_ROWS):
        ids = [row["id"] for row in rows[start : start + MAX_PAGE_ROWS]]
        yield len(api.post("deliveries", "retry", body={"ids": ids})["ids"])


def _result_text(delivered_count: int, missing_count: int, retried_count: int | None) -> str:
    delivered = f"{delivered_count} {'event is' if delivered_count == 1 else 'events are'} delivered"
    if not missing_count:
        return f"{delivered}, and standard input has them all"
    text = f"{delivered}; standard input lacks {missing_count} of them"
    if retried_count is None:
        return f"{text}. --retry sends these again"
    if retried_count < missing_count:
        reason = "the others have no payload any more, or were sent again too often"
        return f"{text}. {retried_count} of these are sent again; {reason}"
    return f"{text}. They are sent again"
