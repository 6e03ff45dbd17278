"""The page of usage: this month against the limit, earlier months, and the details of a month for a bill."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.visits import SignedIn
from streams.core.accounts.usage import UsageDetail
from streams.request_owner import RequestOwner, current_owner, work_for

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MAX_MONTHS_SHOWN = 24
MAX_ROWS = 200


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
        details=await usage.largest(visit.account.id, shown_month, MAX_ROWS + 1),
        rows=MAX_ROWS,
        most=max(item.launches for item in summary.months),
    )


@router.get("/usage/{month}.csv")
async def usage_csv(month: str, visit: SignedIn) -> Response:
    """A month by package and dispatch, for a bill."""
    details = visit.services.usage.all_details(visit.account.id, month)
    # An invalid month is refused before the response begins.
    first_detail = await anext(details, None)
    headers = {"Content-Disposition": f'attachment; filename="usage-{month}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(
        _lines(month, first_detail, details, current_owner()), headers=headers, media_type="text/csv; charset=utf-8"
    )


async def _lines(
    month: str, first_detail: UsageDetail | None, details: AsyncIterator[UsageDetail], owner: RequestOwner | None
) -> AsyncIterator[str]:
    # Ids contain no comma and no quotation mark.
    yield "month,package,dispatch,launches\r\n"
    if first_detail is not None:
        yield _line(month, first_detail)
    # Reads after the response began count for the account too.
    while detail := await _next(details, owner):
        yield _line(month, detail)


async def _next(details: AsyncIterator[UsageDetail], owner: RequestOwner | None) -> UsageDetail | None:
    with work_for(owner):
        return await anext(details, None)


def _line(month: str, detail: UsageDetail) -> str:
    return f"{month},{detail.package_id or ''},{detail.dispatch_id or ''},{detail.launches}\r\n"
