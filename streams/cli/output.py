"""What commands share: a deployment to work in, a table for people, camelCase JSON for programs.

Customers write much of what is shown: `say` and `show` escape what would steer a terminal.
"""

import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streams.core.account import AttemptDetails, DeliveryDetails
from streams.core.delivery_state import DeliveryState
from streams.core.errors import Unavailable
from streams.core.event import format_time
from streams.core.text import escape_controls, escape_json
from streams.core.webhook import Registration

if TYPE_CHECKING:
    from streams.runtime.bootstrap import SqlDeployment

Result = TypeVar("Result")


def me() -> str:
    """Who does it, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may run with an id that has no name
        return f"cli:uid-{os.getuid()}"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def in_deployment(work: Callable[["SqlDeployment"], Awaitable[Result]]) -> Result:
    """Run `work` on this environment's deployment, and close what it opened.

    Raises `Misconfigured` where the database has not this version's schema.
    """
    from streams.runtime.bootstrap import (
        SqlDeployment,  # stages start by these commands too, and not all of them have use for it
    )

    async def run() -> Result:
        deployment = SqlDeployment.from_environment()
        try:
            return await work(deployment)
        except Unavailable:
            from streams.adapters.sql.migrate import require_head

            # Of a missing table the database tells only that; this says what to do.
            await asyncio.to_thread(require_head, deployment.database_url)
            raise
        finally:
            await deployment.database.close()

    return asyncio.run(run())


def show(fields: Mapping[str, Any] | Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print one object or a list of them; absent values are left out."""
    if as_json:
        rows = fields if isinstance(fields, Mapping) else [_present(row) for row in fields]
        text = json.dumps(_present(rows) if isinstance(rows, Mapping) else rows, ensure_ascii=False)
        typer.echo(escape_json(text))
    elif isinstance(fields, Mapping):
        _print_fields(_present(fields))
    else:
        _print_table([_present(row) for row in fields])


def say(text: str, *, err: bool = False) -> None:
    """Print one line for people."""
    typer.echo(escape_controls(text), err=err)


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items() if value not in (None, "", [], {})}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return _present(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _print_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            say(f"{indent}{name}")
            for item in value:
                _print_fields(item, indent + "  ")
                say("")
        else:
            say(f"{indent}{name:<{width}}  {_text(value)}")


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        say("none")
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    for line in [names, *cells]:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return "  ".join(f"{name}: {_text(item)}" for name, item in value.items())
    # Here, so that columns have the width of what is shown.
    return escape_controls(str(value))


# -- nouns as the API will show them ----------------------------------------------------------------------------


def webhook_fields(registration: Registration) -> dict[str, Any]:
    """A webhook; `events` is `["*"]` for all types."""
    webhook = registration.webhook
    return {
        "id": webhook.id,
        "accountId": webhook.account_id,
        "url": webhook.url,
        "fallbackUrl": webhook.fallback_url,
        "events": sorted(webhook.event_types) or ["*"],
        "packages": sorted(webhook.packages),
        "dispatches": sorted(webhook.dispatches),
        "description": registration.description,
        "status": str(webhook.status),
        "pauseReason": str(webhook.pause.reason) if webhook.pause else None,
        "pausedAt": registration.paused_at,
        "maxConcurrency": webhook.max_concurrency,
        "createdAt": registration.created_at,
    }


def delivery_state_fields(delivery_state: DeliveryState) -> dict[str, Any]:
    """A delivery as it stands."""
    return {
        "id": delivery_state.delivery_id,
        "accountId": delivery_state.account_id,
        "webhookId": delivery_state.webhook_id,
        "eventId": delivery_state.event_id,
        "eventType": delivery_state.event_type,
        "state": str(delivery_state.state),
        "reason": delivery_state.reason,
        "attempts": delivery_state.attempts,
        "generation": delivery_state.generation,
        "tier": delivery_state.tier,
        "dueAt": delivery_state.due_at,
        "firstSeenAt": delivery_state.first_seen_at,
        "changedAt": delivery_state.changed_at,
        "explanation": delivery_state.message,
    }


def delivery_fields(seen: DeliveryDetails) -> dict[str, Any]:
    """A delivery with its payload and attempts."""
    return {
        **delivery_state_fields(seen.delivery_state),
        "payload": seen.payload,
        "madeAttempts": [_attempt_fields(attempt) for attempt in seen.attempts],
    }


def _attempt_fields(attempt: AttemptDetails) -> dict[str, Any]:
    return {
        "generation": attempt.generation,
        "number": attempt.number,
        "target": attempt.target,
        "url": attempt.url,
        "startedAt": attempt.started_at,
        "milliseconds": round(attempt.milliseconds, 1),
        "status": attempt.status,
        "outcome": attempt.outcome,
        "explanation": attempt.message,
        "nextStep": attempt.next_step,
        "tier": attempt.tier,
        "requestHeaders": dict(attempt.request_headers),
        "responseHeaders": dict(attempt.response_headers),
        "responseBody": attempt.response_body.decode(errors="replace"),
    }
