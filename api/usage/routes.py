"""Routes for usage: launches by month, and one month's launches for billing."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from api.admission import in_class
from api.auth import MayReadWebhooks
from api.paging import CursorQuery, Limit
from api.services import services_of
from api.shared_models import Page
from api.strict_route import StrictRoute
from api.usage.models import UsageOfPackage, UsageReport
from streams.core.accounts.usage import MONTH_FORM, parse_usage_cursor
from streams.core.queues.request_class import RequestClass
from streams.features.usage.service import MAX_MONTHS

router = APIRouter(route_class=StrictRoute)

Months = Annotated[int, Query(ge=1, le=MAX_MONTHS, description="At most so many months.")]
Month = Annotated[str, Path(pattern=f"^{MONTH_FORM}$", examples=["2026-04"])]


@router.get("/v1/usage", tags=["Account"], summary="Launches by month", operation_id="listUsage")
@in_class(RequestClass.SLOW)
async def usage(caller: MayReadWebhooks, request: Request, months: Months = 12) -> UsageReport:
    """The number of `session.launched` events by UTC month, and the plan limit. Repeated events count once."""
    return UsageReport.of(await services_of(request).usage.summary(caller.own_account_id, months))


@router.get("/v1/usage/{month}", tags=["Account"], summary="A month's launches", operation_id="getUsageOfMonth")
@in_class(RequestClass.SLOW)
async def usage_of_month(
    month: Month, caller: MayReadWebhooks, request: Request, limit: Limit = 50, cursor: CursorQuery = None
) -> Page[UsageOfPackage]:
    """By package and dispatch, in the order of these ids."""
    place = parse_usage_cursor(cursor) if cursor is not None else None
    page = await services_of(request).usage.details(caller.own_account_id, month, place, limit)
    return Page(
        data=[UsageOfPackage.of(row) for row in page.rows],
        next_cursor=str(page.next_place) if page.next_place else None,
    )
