"""Print deliveries and their changes until Ctrl-C."""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.output import JsonOption, OnlyAccountOption, local_time
from scorm_webhooks_cli.text import hint, say
from streams.core.deliveries.delivery import State
from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.text import escape_json
from streams.core.times import parse_time

POLL_SECONDS = 3.0
MAX_BACKOFF_SECONDS = 30.0
# How many one poll returns: the newest, or the newest in one state.
MAX_DELIVERIES_PER_POLL = 200

Row = Mapping[str, Any]


def tail(
    webhook: Annotated[str | None, typer.Option(help="Only this webhook's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as dead.")] = None,
    account: OnlyAccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print deliveries and their changes until Ctrl-C.

    Example: `scorm-webhooks tail --webhook wh_1`
    """
    if state is not None and state not in tuple(State):
        raise Invalid(FieldError("--state", f"must be one of: {', '.join(State)}"))
    with open_api(account) as api:
        Tail(api, {"webhookId": webhook, "state": state}, as_json).run()


class Tail:
    """Asks for the newest deliveries every few seconds, and remembers which change of each it has seen."""

    def __init__(self, api: ApiClient, query: Mapping[str, object], as_json: bool) -> None:
        self._api = api
        self._query = query
        self._as_json = as_json
        # None before the first poll: earlier deliveries are not new.
        self._seen: dict[str, tuple[Any, ...]] | None = None

    def run(self) -> None:
        """Print until Ctrl-C, through outages of the API."""
        hint(f"what becomes of the newest {MAX_DELIVERIES_PER_POLL} deliveries; Ctrl-C ends it")
        seconds = POLL_SECONDS
        while True:
            try:
                self.print_changes()
                seconds = POLL_SECONDS
            except Unavailable as error:
                hint(f"reconnecting: {error}")
                seconds = min(MAX_BACKOFF_SECONDS, 2 * seconds)
            time.sleep(seconds)

    def print_changes(self) -> None:
        """Print what has changed since the last call, oldest first."""
        rows = self._api.rows("deliveries", limit=MAX_DELIVERIES_PER_POLL, **self._query)
        versions = {row["id"]: (row["state"], row.get("tier"), row["attemptCount"], row["generation"]) for row in rows}
        # Only deliveries that the next response can have, so that memory stays small for months.
        known, self._seen = self._seen, versions
        if known is None:
            return
        changed = [row for row in rows if known.get(row["id"]) != versions[row["id"]]]
        for row in sorted(changed, key=lambda row: row["changedAt"]):
            self._print(row)
        if len(changed) == MAX_DELIVERIES_PER_POLL and not known.keys() & versions.keys():
            hint(
                f"more than {MAX_DELIVERIES_PER_POLL} changed at once: some are not shown; "
                "--webhook and --state show fewer"
            )

    def _print(self, row: Row) -> None:
        if self._as_json:
            typer.echo(escape_json(json.dumps(row, ensure_ascii=False)))
            return
        moment = parse_time(row["changedAt"])
        clock = local_time(moment, "%H:%M:%S") if moment else row["changedAt"]
        state = f"{row['state']} {row.get('tier') or row.get('reason') or ''}".rstrip()
        message = f"  {row['message']}" if row.get("message") else ""
        say(f"{clock}  {state:<16}  {row['eventType']:<20}  {row['eventId']}  {row['webhookId']}{message}")
