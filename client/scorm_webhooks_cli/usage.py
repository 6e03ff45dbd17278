"""Commands for usage."""

from typing import Annotated

import typer

from scorm_webhooks_cli.client import open_api
from scorm_webhooks_cli.output import JsonOption, show

usage = typer.Typer(no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]


@usage.command("list")
def usage_list(
    account: AccountArgument,
    months: Annotated[int, typer.Option(min=1, max=120, help="At most so many months.")] = 12,
    as_json: JsonOption = False,
) -> None:
    """List the launches of an account by month, the newest first."""
    with open_api(account) as api:
        report = api.get("usage", months=months)
    if as_json:
        show(report, as_json)
    else:
        columns = {"month": "month", "launches": "launches", "late": "lateLaunches"}
        show(report["months"], as_json, {**columns, "limit": lambda _: report.get("planLimit", "none")})


@usage.command("show")
def usage_show(
    account: AccountArgument,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-04.")],
    as_json: JsonOption = False,
) -> None:
    """Show the launches of a month by package and dispatch."""
    with open_api(account) as api:
        rows = api.rows("usage", month)
    show(rows, as_json, {"package": "packageId", "dispatch": "dispatchId", "launches": "launches"})
