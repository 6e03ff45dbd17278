"""The page of usage: this month against the limit, earlier months, and the details of a month for billing."""

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.shell.csv_file import csv_response
from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.visits import SignedIn
from streams.core.queues.request_class import RequestClass

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MAX_MONTHS_SHOWN = 24
MAX_USAGE_ROWS = 200


@router.get("/usage")
async def usage_page(visit: SignedIn, month: str | None = None) -> Response:
    """The chosen month by package and dispatch; the current month by default."""
    usage = visit.services.usage
    summary = await usage.summary(visit.account.id, MAX_MONTHS_SHOWN)
    shown_month = month or summary.current_month.month
    return render(
        visit,
        "usage.html",
        summary=summary,
        present=summary.current_month,
        chosen=shown_month,
        details=await usage.largest(visit.account.id, shown_month, MAX_USAGE_ROWS + 1),
        rows=MAX_USAGE_ROWS,
        most=max(item.launches for item in summary.months),
    )


@router.get("/usage/{month}.csv")
@in_class(RequestClass.SLOW)
async def usage_csv(month: str, visit: SignedIn) -> Response:
    """A month by package and dispatch, for billing."""
    details = visit.services.usage.all_details(visit.account.id, month)
    header = ("month", "package", "dispatch", "launches")
    return await csv_response(
        f"usage-{month}.csv",
        header,
        details,
        lambda detail: (month, detail.package_id, detail.dispatch_id, detail.launches),
    )
