"""Routes for replays by time, and for their jobs."""

from fastapi import APIRouter, Request, Response

from api.admission import in_class
from api.auth import MayReadDeliveries, MayWriteDeliveries
from api.deliveries.models import JobDetails, job_of
from api.replays.models import Replay, ReplayCounted
from api.services import services_of
from api.shared_models import Id
from api.strict_route import StrictRoute
from streams.core.queues.request_class import RequestClass

router = APIRouter(route_class=StrictRoute)


@router.post(
    "/v1/webhooks/{webhook_id}/replays",
    tags=["Deliveries"],
    summary="Send a webhook's events of a period again",
    responses={202: {"model": JobDetails, "description": "A job"}},
    operation_id="replayWebhook",
)
@in_class(RequestClass.SLOW)
async def replay(
    webhook_id: Id, body: Replay, caller: MayWriteDeliveries, request: Request, response: Response
) -> ReplayCounted | JobDetails:
    """For an endpoint that lost events, or a new one that wants older events: a job, or with `countOnly` a count.

    Each event keeps its `webhook-id`. Held and waiting deliveries are sent anyway. A webhook has one replay at a time.
    """
    services, replay_request = services_of(request), body.to_replay_request(webhook_id)
    webhook = (await services.webhooks.find(webhook_id, caller.account_id)).webhook
    if body.count_only:
        counted_at = services.clock.now()
        count = await services.replays.count(webhook, replay_request)
        return ReplayCounted.of(count.deliveries, count, counted_at=counted_at)
    response.status_code = 202
    return job_of(await services.replays.start(webhook, replay_request, actor=caller.actor))


@router.get("/v1/jobs/{job_id}", tags=["Jobs"], summary="Show a job", operation_id="getJob")
async def show_job(job_id: Id, caller: MayReadDeliveries, request: Request) -> JobDetails:
    """The progress of a job."""
    return job_of(await services_of(request).deliveries.job(job_id, caller.account_id))


@router.post("/v1/jobs/{job_id}/cancel", tags=["Jobs"], summary="Cancel a job", operation_id="cancelJob")
async def cancel_job(job_id: Id, caller: MayWriteDeliveries, request: Request) -> JobDetails:
    """It stops after its current batch, and finished work is kept. 409 if the job is finished."""
    deliveries = services_of(request).deliveries
    return job_of(await deliveries.cancel(job_id, caller.account_id, actor=caller.actor))
