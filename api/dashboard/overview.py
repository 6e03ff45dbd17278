"""The overview: whether each webhook works, and what needs a person."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dashboard.page_route import PageRoute
from api.dashboard.rendering import render
from api.dashboard.visits import visit_of
from streams.core.account import DeliveryFilter
from streams.core.delivery import State
from streams.core.verdict import Level

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# An account rarely has more; the list of webhooks has them all, in pages.
MOST_WEBHOOKS = 100
_ORDER = [Level.BAD, Level.WARNING, Level.GOOD, Level.QUIET]


@router.get("/")
async def overview(request: Request) -> Response:
    """Those that need a person first."""
    visit = await visit_of(request)
    services = visit.services
    page = await services.webhooks.page(visit.account.id, None, MOST_WEBHOOKS)
    verdicts = await services.webhook_stats.verdicts(page.rows)
    found = sorted(zip(page.rows, verdicts, strict=True), key=lambda pair: _ORDER.index(pair[1].level))
    dead = await services.deliveries.list(DeliveryFilter(visit.account.id, state=State.DEAD, limit=5))
    latest = await services.deliveries.list(DeliveryFilter(visit.account.id, limit=10))
    return render(
        request, "overview.html", visit, found=found, more=page.next is not None, dead=dead.rows, latest=latest.rows
    )
