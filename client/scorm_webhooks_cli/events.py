"""Commands for events."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, encode_json, open_api
from scorm_webhooks_cli.input_file import read_text
from scorm_webhooks_cli.input_lines import InputLine, PublishedEvents, parse_lines
from scorm_webhooks_cli.output import AccountOption, JsonOption, parse_time_option, progress_bar, show, without_none
from scorm_webhooks_cli.text import say
from streams.core.errors import FieldError, Invalid, Misconfigured, ScormWebhooksError, Unavailable
from streams.core.limits import MAX_EVENTS_PER_REQUEST
from streams.core.times import format_time

# The API takes 1 MiB.
MAX_PORTION_BYTES = 900_000
# An API key has its own account.
_OWN_ACCOUNT = "own"
_INDEX = re.compile(r"^events\[(\d+)\](\.?)")

events = typer.Typer(no_args_is_help=True)
EventsArgument = Annotated[str, typer.Argument(help="A file of JSON events, one a line; - for standard input.")]


@events.command("publish")
def events_publish(
    file: EventsArgument,
    as_json: JsonOption = False,
) -> None:
    """Publish events: the payload's JSON plus `accountId`, one a line. All are checked before the first is published.

    Prints how many webhooks want them. They go through the API in portions; the API also checks their accounts. With an
    account's key a line needs no `accountId`.
    """
    show_published(publish_by_api(read_text(file), is_quiet=as_json), as_json)


def show_published(published: PublishedEvents, as_json: bool) -> None:
    """Print the ids. Raises the error that stopped the rest, with the number of published events."""
    ids = published.ids
    if as_json:
        rows = [
            without_none(id=event_id, webhooks=count) for event_id, count in zip(ids, published.counts, strict=True)
        ]
        show({"ids": ids, "events": rows}, as_json)
    else:
        say(f"{'1 event' if len(ids) == 1 else f'{len(ids)} events'} published{_explain_counts(published)}")
    if error := published.error:
        kind = Misconfigured if isinstance(error, Misconfigured) else Unavailable
        raise kind(f"{error}; at least {len(ids)} of {published.total} events are published")


def publish_by_api(text: str, *, is_quiet: bool) -> PublishedEvents:
    """Publish the events of all lines through the API. Raises if none is published."""
    lines = parse_lines(text, default_account=_OWN_ACCOUNT)
    published = PublishedEvents(len(lines))
    with open_api() as api, progress_bar(is_disabled=is_quiet) as progress:
        task_id = progress.add_task("publishing", total=len(lines))
        for portion in _portions(lines):
            try:
                accepted = _post_portion(api, portion)
            except ScormWebhooksError as error:
                published.error = _with_line_numbers(error, portion)
                if not published.ids:
                    raise published.error from None
                break
            for event in accepted["events"]:
                published.add(event["id"], event.get("webhooks"))
            progress.advance(task_id, len(portion))
    return published


def _post_portion(api: ApiClient, portion: Sequence[InputLine]) -> Any:
    """Publish a portion. After an outage it is sent once more, with the same ids: it may or may not be published."""
    body = {"events": [dict(line.fields) for line in portion]}
    try:
        return api.post("events", body=body, count=True)
    except Unavailable:
        try:
            return api.post("events", body=body, count=True)
        except Unavailable as error:
            lines = f"lines {portion[0].number} to {portion[-1].number}"
            raise Unavailable(f"{error}; {lines} may be published: with ids of your own, send them again") from None


def _portions(lines: Sequence[InputLine]) -> Iterator[Sequence[InputLine]]:
    """The lines in portions that the API takes in one request."""
    portion: list[InputLine] = []
    size = 0
    for line in lines:
        line_bytes = len(encode_json(line.fields))
        if len(portion) == MAX_EVENTS_PER_REQUEST or (portion and size + line_bytes > MAX_PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(line)
        size += line_bytes
    if portion:
        yield portion


@events.command("find")
def events_find(
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")],
    account: AccountOption = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Look on the topic from this time on, for an hour: 2h, or 2026-04-10T14:32:00Z. Default: the last "
            "hour, or around the time in a generated id."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say where an event is: its deliveries, or the topic, and then which webhooks want it, or why none does."""
    since_text = format_time(parse_time_option("--since", since)) if since else None
    with open_api(account) as api:
        show(api.get("events", event_id, since=since_text), as_json)


def _with_line_numbers(error: ScormWebhooksError, lines: Sequence[InputLine]) -> ScormWebhooksError:
    """The error, with `line 7: accountId` in place of `events[6].accountId`."""
    if not isinstance(error, Invalid):
        return error
    return Invalid(*(FieldError(_INDEX.sub(partial(_line, lines), item.field), item.message) for item in error.errors))


def _line(lines: Sequence[InputLine], match: re.Match[str]) -> str:
    return f"line {lines[int(match[1])].number}{': ' if match[2] else ''}"


def _explain_counts(published: PublishedEvents) -> str:
    counts = published.counts
    if not published.has_counts:
        return "; no database answers, so accounts were not checked and webhooks not counted"
    if None in counts:
        return "; webhooks were not counted: they or their scope ids are too many, or the database is away"
    if unwanted_count := counts.count(0):
        unwanted = "it" if len(counts) == 1 else f"{unwanted_count} of them"
        return f"; no webhook wants {unwanted}: `scorm-webhooks events find ID --account ACCOUNT` says why"
    return ""
