"""Routes that erase learners."""

from fastapi import APIRouter, Request, Response

from api.admission import in_class
from api.auth import MayEraseLearners, account_of
from api.learners.models import ErasureDetails, LearnerCount, LearnerToErase, erasure_of
from api.services import services_of
from api.shared_models import Id
from api.strict_route import StrictRoute
from streams.core.accounts.account import DeliveryFilter
from streams.core.queues.request_class import RequestClass

router = APIRouter(tags=["Learners"], route_class=StrictRoute)


@router.post(
    "/v1/learners/erase",
    summary="Erase a learner",
    responses={202: {"model": ErasureDetails, "description": "It takes longer, and goes on"}},
    operation_id="eraseLearner",
)
@in_class(RequestClass.SLOW)
async def erase(
    body: LearnerToErase, caller: MayEraseLearners, request: Request, response: Response
) -> ErasureDetails | LearnerCount:
    """Permanently: payloads and responses are deleted, and pending deliveries are not sent.

    200 when it is done, 202 when it takes longer than five seconds: it goes on by itself. Two seconds after
    `propagated`, no request to an endpoint begins. A second request erases what happened since the first. Endpoints
    keep what they received; backups and topics do not change. `countOnly` only counts.
    """
    services, account_id = services_of(request), account_of(caller, body.account_id)
    learners = services.learners
    if body.count_only:
        summary = await services.deliveries.summary(DeliveryFilter(account_id, learner_id=body.learner_id))
        return LearnerCount(deliveries=summary.count)
    result = await learners.erase(account_id, body.learner_id, actor=caller.actor)
    response.status_code = 200 if result.erasure.is_finished else 202
    return erasure_of(result, learners.topics)


@router.get("/v1/learners/erasures/{erasure_id}", summary="Show an erasure", operation_id="getErasure")
async def show_erasure(erasure_id: Id, caller: MayEraseLearners, request: Request) -> ErasureDetails:
    """Whether it is finished, and what it has erased so far."""
    learners = services_of(request).learners
    return erasure_of(await learners.find(erasure_id, caller.account_id), learners.topics)
