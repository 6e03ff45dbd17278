"""The overview: whether each webhook works, the figures of a day, and problems that need a person."""

from datetime import timedelta

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.forms import with_query
from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.rows import names_of
from api.shell.visits import SignedIn
from api.webhooks.charts import attempts_chart
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import State
from streams.core.times import format_time
from streams.features.webhooks.verdict import Level

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# An account rarely has more; the list of webhooks has them all, in pages.
MAX_WEBHOOKS = 100
_LEVEL_ORDER = [Level.BAD, Level.WARNING, Level.GOOD, Level.QUIET]


@router.get("/")
async def overview(visit: SignedIn) -> Response:
    """The webhooks, those that need a person first."""
    services, account_id, now = visit.services, visit.account.id, visit.services.clock.now()
    async with services.shared_read_transaction():
        page = await services.webhooks.page(account_id, None, MAX_WEBHOOKS)
        verdicts = await services.webhook_stats.verdicts(page.rows)
        dead_letters = await services.deliveries.list(DeliveryFilter(account_id, state=State.DEAD, limit=5))
        latest_deliveries = await services.deliveries.list(DeliveryFilter(account_id, limit=10))
        rows = [*dead_letters.rows, *latest_deliveries.rows]
        last_attempts = await services.search.last_attempts(rows)
        names = await names_of(visit, rows)
        hours = await services.webhook_stats.account_hours(account_id)
        counts = {
            state: await services.search.count(DeliveryFilter(account_id, state=state))
            for state in (State.WAITING, State.HELD, State.DEAD)
        }
    return render(
        visit,
        "overview.html",
        webhooks=sorted(zip(page.rows, verdicts, strict=True), key=lambda pair: _LEVEL_ORDER.index(pair[1].level)),
        more=page.next_cursor is not None,
        # The list of webhooks shows it.
        says_pauses=page.next_cursor is None,
        dead=dead_letters.rows,
        latest=latest_deliveries.rows,
        last=last_attempts,
        names=names,
        chart=attempts_chart(hours, now),
        counts=counts,
        delivered_link=with_query("/deliveries", state="delivered", since=format_time(now - timedelta(hours=24))),
    )
