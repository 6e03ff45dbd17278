"""Routes for the readers of pull webhooks."""

import asyncio
from collections.abc import Coroutine, Sequence

from fastapi import APIRouter, Request

from api.admission import in_class
from api.auth import MayWriteDeliveries, authenticate_again
from api.pulls.models import Pull, PulledIds, PulledItem, PulledItems, ReturnedIds, Settled
from api.services import services_of
from api.shared_models import Id
from api.strict_route import StrictRoute
from streams.core.accounts.access import Scope
from streams.core.queues.request_class import TURN_SECONDS, RequestClass
from streams.request_owner import current_owner, work_for

# Proxies end a request after thirty seconds: a reader with a new item waits for the database no longer than that.
MAX_REQUEST_SECONDS = 29.0

router = APIRouter(prefix="/v1/webhooks", tags=["Pull"], route_class=StrictRoute)


@router.post("/{webhook_id}/pull", summary="Pull deliveries", operation_id="pullDeliveries")
@in_class(RequestClass.PULL)
async def pull(webhook_id: Id, caller: MayWriteDeliveries, request: Request, body: Pull | None = None) -> PulledItems:
    """Lease the oldest deliveries of a pull webhook. Without any, the response has no items.

    Several readers may share a webhook: no two have the same item at once. An item that is not acknowledged before its
    lease ends is given to the next reader, as another attempt (`webhook-attempt`). A webhook that gets requests
    gets 409. While it is paused there are no items.
    """
    request.state.is_frequent = True
    wanted, services, loop = body or Pull(), services_of(request), asyncio.get_running_loop()
    started_at, owner = loop.time(), current_owner()
    deadline = started_at + wanted.wait_seconds
    while True:
        with work_for(owner):
            items, rate_seconds = await services.pulls.pull(
                webhook_id, wanted.max, wanted.lease_seconds, caller.account_id
            )
        seconds_left = deadline - loop.time()
        if items or seconds_left <= 0:
            break
        began_at = loop.time()
        waiting = services.pulls.wait(webhook_id, seconds_left, wanted.max, rate_seconds)
        is_woken = await _unless_gone(request, waiting)
        # The wait for an item does not count as a wait for the database.
        owner = owner and owner._replace(began_at=started_at + MAX_REQUEST_SECONDS - TURN_SECONDS)
        request.state.waited_seconds = getattr(request.state, "waited_seconds", 0.0) + loop.time() - began_at
        if not is_woken:
            break
        with work_for(owner):
            await authenticate_again(request, [Scope.DELIVERIES_WRITE])
    return PulledItems(items=[PulledItem.of(item) for item in items])


async def _unless_gone(request: Request, waiting: Coroutine[None, None, bool]) -> bool:
    """The result of a wait. False if the client has closed its connection: a lease would reach no reader."""
    woken, gone = asyncio.create_task(waiting), asyncio.create_task(_is_gone(request))
    try:
        await asyncio.wait({woken, gone}, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done() and await woken
    finally:
        woken.cancel()
        gone.cancel()
        if woken.done() and not woken.cancelled():
            # Read the exception: Python logs one that nobody reads.
            woken.exception()


async def _is_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.post("/{webhook_id}/ack", summary="Acknowledge pulled deliveries", operation_id="acknowledgeDeliveries")
async def acknowledge(webhook_id: Id, body: PulledIds, caller: MayWriteDeliveries, request: Request) -> Settled:
    """The deliveries are delivered, and no reader gets them again. This works after the end of the lease, too.

    A second acknowledgement changes nothing, and has the same response.
    """
    request.state.is_frequent = True
    settled = await services_of(request).pulls.acknowledge(webhook_id, body.ids, caller.account_id)
    return _settled(body.ids, settled)


@router.post("/{webhook_id}/nack", summary="Give pulled deliveries back", operation_id="giveDeliveriesBack")
async def give_back(webhook_id: Id, body: ReturnedIds, caller: MayWriteDeliveries, request: Request) -> Settled:
    """The next reader may pull them, after `waitSeconds`. Those whose lease has ended are `unknown`."""
    request.state.is_frequent = True
    settled = await services_of(request).pulls.give_back(webhook_id, body.ids, body.wait_seconds, caller.account_id)
    return _settled(body.ids, settled)


def _settled(asked: Sequence[str], settled: Sequence[str]) -> Settled:
    known = set(settled)
    return Settled(ids=list(settled), unknown=[one for one in dict.fromkeys(asked) if one not in known])
