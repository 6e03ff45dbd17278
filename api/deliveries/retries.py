"""Pages that send all deliveries again that match the filter of the list: a preview, and the start of a job."""

from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.deliveries.filters import chips_of, counted_until, filter_of, links_of
from api.shell.forms import SentForm
from api.shell.once import new_form_key
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.rows import names_of
from api.shell.visits import MayWriteDeliveries
from streams.core.queues.request_class import RequestClass
from streams.features.deliveries.retry_rules import to_retry_filter

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/deliveries/retry")
@in_class(RequestClass.SLOW)
async def preview_page(visit: MayWriteDeliveries) -> Response:
    """How many deliveries would be sent again, before anything happens."""
    delivery_filter, counted_at = filter_of(visit, visit.query), visit.services.clock.now()
    retry_filter = to_retry_filter(replace(delivery_filter, changed_until=counted_at))
    links = replace(links_of(visit.request, delivery_filter), path="/deliveries")
    names = await names_of(visit, (), *filter(None, [delivery_filter.webhook_id]))
    return render(
        visit,
        "retry_preview.html",
        chips=chips_of(links, names),
        summary=await visit.services.search.summary(retry_filter),
        states=retry_filter.states or (retry_filter.state,),
        links=links,
        counted_at=counted_at,
        once=new_form_key(),
    )


@router.post("/deliveries/retry")
@in_class(RequestClass.SLOW)
async def start(visit: MayWriteDeliveries, form: SentForm) -> Response:
    """Start the job. The same form sent twice starts one job."""
    delivery_filter = replace(filter_of(visit, form), changed_until=counted_until(form))
    job = await visit.services.deliveries.start_retry(
        delivery_filter, visit.account.id, actor=visit.actor, idempotency_key=form["once"] or None
    )
    return redirect(f"/jobs/{job.id}")
