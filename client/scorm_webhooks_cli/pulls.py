"""Commands of a pull webhook's reader."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import open_api
from scorm_webhooks_cli.output import JsonOption, show
from scorm_webhooks_cli.text import say
from scorm_webhooks_cli.webhooks import WebhookArgument, webhooks
from streams.core.limits import (
    DEFAULT_LEASE_SECONDS,
    DEFAULT_PULL_ITEMS,
    MAX_LEASE_SECONDS,
    MAX_NACK_WAIT_SECONDS,
    MAX_PULL_ITEMS,
    MAX_PULL_WAIT_SECONDS,
)

# The group, with these commands.
__all__ = ["webhooks"]

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of items that were pulled.")]


@webhooks.command("pull")
def webhooks_pull(
    webhook_id: WebhookArgument,
    most: Annotated[int, typer.Option("--max", min=1, max=MAX_PULL_ITEMS, help="Items, at most.")] = DEFAULT_PULL_ITEMS,
    wait: Annotated[
        int, typer.Option(min=0, max=MAX_PULL_WAIT_SECONDS, help="Seconds to wait if there is no item.")
    ] = 0,
    lease: Annotated[
        int, typer.Option(min=1, max=MAX_LEASE_SECONDS, help="Seconds to acknowledge the items.")
    ] = DEFAULT_LEASE_SECONDS,
) -> None:
    """Pull the oldest items of a pull webhook, and print them as JSON, one a line."""
    with open_api() as api:
        body = {"max": most, "waitSeconds": wait, "leaseSeconds": lease}
        for item in api.post("webhooks", webhook_id, "pull", body=body)["items"]:
            say(json.dumps(item))


@webhooks.command("ack")
def webhooks_ack(webhook_id: WebhookArgument, ids: IdsArgument, as_json: JsonOption = False) -> None:
    """Acknowledge items: they are delivered. Exit code 1 if some are unknown."""
    _settle("ack", webhook_id, {"ids": ids}, as_json)


@webhooks.command("nack")
def webhooks_nack(
    webhook_id: WebhookArgument,
    ids: IdsArgument,
    wait: Annotated[
        int, typer.Option(min=0, max=MAX_NACK_WAIT_SECONDS, help="Seconds until somebody may pull them.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Give items back: the next reader gets them. Exit code 1 if some are unknown."""
    _settle("nack", webhook_id, {"ids": ids, "waitSeconds": wait}, as_json)


def _settle(route: str, webhook_id: str, body: Mapping[str, Any], as_json: bool) -> None:
    with open_api() as api:
        settled = api.post("webhooks", webhook_id, route, body=body)
        unknown_ids = settled["unknown"]
    show(settled, as_json)
    if unknown_ids:
        raise typer.Exit(1)
