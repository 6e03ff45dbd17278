"""The page of usage: this month against the limit, earlier months, and what a bill needs of one."""

import csv
import io

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dashboard.page_route import PageRoute
from api.dashboard.rendering import render
from api.dashboard.visits import visit_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MONTHS = 24


@router.get("/usage")
async def usage_page(request: Request, month: str | None = None) -> Response:
    """The chosen month by package and dispatch; the present one until then."""
    visit = await visit_of(request)
    usage = visit.services.usage
    summary = await usage.summary(visit.account.id, MONTHS)
    chosen = month or summary.months[0].month
    return render(
        request,
        "usage.html",
        visit,
        summary=summary,
        present=summary.months[0],
        chosen=chosen,
        details=await usage.details(visit.account.id, chosen),
        most=max(one.launches for one in summary.months),
    )


@router.get("/usage/{month}.csv")
async def usage_csv(month: str, request: Request) -> Response:
    """A month by package and dispatch, for a bill."""
    visit = await visit_of(request)
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(["month", "package", "dispatch", "launches"])
    for one in await visit.services.usage.details(visit.account.id, month):
        table.writerow([month, one.package_id or "", one.dispatch_id or "", one.launches])
    headers = {"Content-Disposition": f'attachment; filename="usage-{month}.csv"', "Cache-Control": "no-store"}
    return Response(written.getvalue(), headers=headers, media_type="text/csv; charset=utf-8")
