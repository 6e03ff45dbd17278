"""Models of usage."""

from typing import Annotated

from pydantic import Field

from api.shared_models import Model
from streams.core.usage import UsageDetail
from streams.features.usage.service import UsageSummary


class MonthOfUsage(Model):
    """The launches of an account in a calendar month of UTC."""

    month: Annotated[str, Field(examples=["2026-04"])]
    launches: int
    late_launches: Annotated[
        int,
        Field(
            description="Launches that arrived in this month, of a month that was closed: 35 days after its end. "
            "They are part of no month's `launches`."
        ),
    ] = 0


class UsageReport(Model):
    """The newest months first, the present one included."""

    plan_limit: Annotated[int | None, Field(description="Launches a month in the plan; absent for no limit.")] = None
    months: list[MonthOfUsage]


class UsageOfPackage(Model):
    """The launches of a month of one package and one dispatch."""

    package_id: str | None = None
    dispatch_id: str | None = None
    launches: int


def usage_report(summary: UsageSummary) -> UsageReport:
    months = [
        MonthOfUsage(month=one.month, launches=one.launches, late_launches=one.late_launches) for one in summary.months
    ]
    return UsageReport(plan_limit=summary.plan_limit, months=months)


def usage_of_package(detail: UsageDetail) -> UsageOfPackage:
    return UsageOfPackage(package_id=detail.package_id, dispatch_id=detail.dispatch_id, launches=detail.launches)
