"""Commands for usage."""

from typing import Annotated

import typer

from api.usage.models import UsageOfPackage, UsageReport
from streams.cli.output import JsonOption, run_in_deployment, show
from streams.core.accounts.usage import UsageDetail
from streams.runtime.bootstrap import SqlDeployment

usage = typer.Typer(no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]


@usage.command("list")
def usage_list(
    account: AccountArgument,
    months: Annotated[int, typer.Option(min=1, max=120, help="At most so many months.")] = 12,
    as_json: JsonOption = False,
) -> None:
    """List the launches of an account by month, the newest first."""
    report = UsageReport.of(run_in_deployment(lambda deployment: deployment.usage().summary(account, months)))
    if as_json:
        show(report, as_json)
    else:
        limit = report.plan_limit
        columns = {"month": "month", "launches": "launches", "late": "lateLaunches"}
        show(report.months, as_json, {**columns, "limit": lambda _: limit or "none"})


@usage.command("show")
def usage_show(
    account: AccountArgument,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-04.")],
    as_json: JsonOption = False,
) -> None:
    """Show the launches of a month by package and dispatch."""

    async def details(deployment: SqlDeployment) -> list[UsageDetail]:
        return [detail async for detail in deployment.usage().all_details(account, month)]

    details_of_month = run_in_deployment(details)
    columns = {"package": "packageId", "dispatch": "dispatchId", "launches": "launches"}
    show([UsageOfPackage.of(detail) for detail in details_of_month], as_json, columns)
