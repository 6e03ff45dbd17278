"""Routes for deliveries and dead letters."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import Field

from api.admission import in_class
from api.auth import MayReadDeliveries, MayWriteDeliveries, Member
from api.deliveries.models import (
    RETRY_EXAMPLES,
    AffectedDeliveries,
    Attempt,
    DeadLetterChoice,
    DeadLetterCount,
    Delivery,
    DeliveryChoice,
    DeliveryCount,
    DeliveryWithAttempts,
    EventStatus,
    EventType,
    JobDetails,
    RetryFilter,
    delivery_of,
    delivery_with_attempts,
    event_status_of,
    job_of,
)
from api.paging import CursorQuery, Limit, cursor_of
from api.services import services_of
from api.shared_models import Id, Model, Moment, Page, SearchText, to_response_page
from api.strict_route import StrictRoute
from api.visibility import visible
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.job import JobKind
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import parse_pair
from streams.core.ids import SHORT_ID_PATTERN
from streams.core.limits import MAX_ATTEMPTS_SHOWN
from streams.core.page import MAX_PAGE_ROWS
from streams.core.queues.request_class import RequestClass
from streams.features.deliveries.retry_rules import to_retry_filter

router = APIRouter(route_class=StrictRoute)


class DeliveryQuery(Model):
    """The parameters of a list of deliveries. `DeliveryFilter` has the same names."""

    short_id: Annotated[
        str | None,
        Field(
            pattern=f"^{SHORT_ID_PATTERN.pattern}$",
            description="Only those whose id begins with these eight characters.",
            examples=["6f1c2ab4"],
        ),
    ] = None
    webhook_id: Annotated[Id | None, Field(description="Only this webhook's.")] = None
    event_id: Annotated[Id | None, Field(description="Only of the event with this id.")] = None
    event_type: Annotated[EventType | None, Field(description="Only of this type of event.")] = None
    since: Annotated[Moment | None, Field(description="Only deliveries first seen then or later.")] = None
    until: Annotated[Moment | None, Field(description="Only deliveries first seen before.")] = None
    session_id: Annotated[Id | None, Field(description="Only of events of this session.")] = None
    learner_id: Annotated[SearchText | None, Field(description="Only of events of this learner.")] = None
    package_id: Annotated[Id | None, Field(description="Only of events of this package.")] = None
    dispatch_id: Annotated[Id | None, Field(description="Only of events of this dispatch.")] = None
    metadata: Annotated[
        SearchText | None,
        Field(description="Only of events with this pair of metadata.", examples=["department=sales"]),
    ] = None
    outcome: Annotated[OutcomeKind | None, Field(description="Only with an attempt that failed in this way.")] = None
    limit: Limit = 50
    cursor: CursorQuery = None

    def filter(self, account_id: str | None, **fixed_fields: Any) -> DeliveryFilter:
        """Raises `Invalid`."""
        if self.outcome is OutcomeKind.DELIVERED:
            raise Invalid(FieldError("outcome", "names a failure: for delivered ones use state=delivered"))
        values = self.model_dump(by_alias=False, exclude={"cursor"})
        values["metadata"] = None if self.metadata is None else parse_pair(self.metadata)
        return DeliveryFilter(account_id, after=cursor_of(self.cursor), **values, **fixed_fields)


class SummaryQuery(Model):
    """The parameters of a list of events' statuses."""

    since: Annotated[Moment | None, Field(description="Only events first seen then or later.")] = None
    until: Annotated[Moment | None, Field(description="Only events first seen before.")] = None
    limit: Limit = MAX_PAGE_ROWS
    cursor: CursorQuery = None


class StateQuery(DeliveryQuery):
    """The parameters of the list of all deliveries."""

    state: Annotated[State | None, Field(description="Only in this state.")] = None


class DeadLetterQuery(DeliveryQuery):
    """The parameters of the list of dead letters."""

    reason: Annotated[DeathReason | None, Field(description="Only dead letters with this reason.")] = None


@router.get("/v1/deliveries", tags=["Deliveries"], summary="List deliveries", operation_id="listDeliveries")
async def list_deliveries(
    caller: MayReadDeliveries, request: Request, query: Annotated[StateQuery, Query()]
) -> Page[Delivery]:
    """Newest first. Pages skip nothing and repeat nothing while new deliveries arrive."""
    return await _page(request, query.filter(caller.account_id))


@router.get(
    "/v1/deliveries/{delivery_id}",
    tags=["Deliveries"],
    summary="Show a delivery with its newest attempts",
    operation_id="getDelivery",
)
async def show(delivery_id: Id, caller: MayReadDeliveries, request: Request) -> DeliveryWithAttempts:
    """The payload, and the newest attempts, each with its request and response.

    There are fewer than 50 when their responses are large. `earlierAttemptsCursor` leads to earlier ones.
    """
    details = await services_of(request).deliveries.find(delivery_id, caller.account_id)
    return delivery_with_attempts(visible(details, caller.permissions))


@router.get(
    "/v1/deliveries/{delivery_id}/attempts",
    tags=["Deliveries"],
    summary="List the attempts of a delivery",
    operation_id="listAttempts",
)
async def list_attempts(
    delivery_id: Id,
    caller: MayReadDeliveries,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_ATTEMPTS_SHOWN, description="At most so many rows.")] = MAX_ATTEMPTS_SHOWN,
    cursor: CursorQuery = None,
) -> Page[Attempt]:
    """Newest first. A page has fewer rows when their responses are large: go on until there is no `nextCursor`."""
    service = services_of(request).deliveries
    page = await service.attempts(delivery_id, cursor_of(cursor), limit, caller.account_id)
    page = visible(page, caller.permissions)
    return to_response_page(page, Attempt.of)


@router.post(
    "/v1/deliveries/{delivery_id}/retry",
    status_code=202,
    tags=["Deliveries"],
    summary="Send a delivery again",
    operation_id="retryDelivery",
)
async def retry(delivery_id: Id, caller: MayWriteDeliveries, request: Request) -> Delivery:
    """Sends a dead, delivered, discarded or waiting delivery again, with a fresh schedule."""
    delivery_state = await services_of(request).deliveries.retry(
        delivery_id, actor=caller.actor, account_id=caller.account_id
    )
    return delivery_of(delivery_state)


@router.post(
    "/v1/deliveries/retry",
    tags=["Deliveries"],
    summary="Send deliveries again",
    responses={202: {"model": JobDetails, "description": "By filter: a job"}},
    operation_id="retryDeliveries",
)
@in_class(RequestClass.SLOW)
async def retry_some(
    body: Annotated[DeliveryChoice, Body(openapi_examples=RETRY_EXAMPLES)],
    caller: MayWriteDeliveries,
    request: Request,
    response: Response,
) -> AffectedDeliveries | DeliveryCount | JobDetails:
    """Sends dead, delivered, discarded and waiting deliveries again, at the pace of their endpoints.

    `ids` are replayed at once; `filter` starts a job; `countOnly` counts. A filter without `state` leaves out waiting
    deliveries, and no filter includes held ones: both are sent anyway.
    """
    services = services_of(request)
    if body.filter is not None and body.ids is None:
        retry_filter = _retry_filter(body.filter, caller)
        if body.count_only:
            counted_at, summary = services.clock.now(), await services.search.summary(retry_filter)
            return DeliveryCount.of(
                summary, at_least=summary.is_capped, undeliverable=summary.undeliverable_count, counted_at=counted_at
            )
        response.status_code = 202
        return job_of(await services.deliveries.start_retry(retry_filter, caller.own_account_id, actor=caller.actor))
    if body.ids is None or body.filter is not None or body.count_only:
        raise Invalid(FieldError("ids", "name either ids or a filter"))
    return AffectedDeliveries.of(await services.deliveries.retry_some(body.ids, caller.account_id, actor=caller.actor))


def _retry_filter(retry_filter: RetryFilter, caller: Member) -> DeliveryFilter:
    """The filter for services. Raises `Invalid`, which names fields as they are in the body."""
    try:
        return to_retry_filter(replace(retry_filter.to_filter(), account_id=caller.own_account_id))
    except Invalid as error:
        raise Invalid(
            *(one if one.field == "filter" else FieldError(f"filter.{one.field}", one.message) for one in error.errors)
        ) from None


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries/summary",
    tags=["Webhooks"],
    summary="List what became of the events of a webhook",
    operation_id="listEventStatuses",
)
@in_class(RequestClass.SLOW)
async def summary(
    webhook_id: Id, caller: MayReadDeliveries, request: Request, query: Annotated[SummaryQuery, Query()]
) -> Page[EventStatus]:
    """Newest first, without test events. A receiver can find out which events it misses."""
    services = services_of(request)
    webhook = (await services.webhooks.find(webhook_id, caller.account_id)).webhook
    delivery_filter = DeliveryFilter(
        webhook.account_id,
        webhook_id,
        since=query.since,
        until=query.until,
        limit=query.limit,
        after=cursor_of(query.cursor),
    )
    return to_response_page(await services.deliveries.statuses(delivery_filter), event_status_of)


@router.get("/v1/dead-letters", tags=["Dead letters"], summary="List dead letters", operation_id="listDeadLetters")
async def list_dead_letters(
    caller: MayReadDeliveries, request: Request, query: Annotated[DeadLetterQuery, Query()]
) -> Page[Delivery]:
    """Newest first, each with its reason."""
    return await _page(request, query.filter(caller.account_id, state=State.DEAD))


@router.post(
    "/v1/dead-letters/retry",
    tags=["Dead letters"],
    summary="Send dead letters again",
    responses={202: {"model": JobDetails, "description": "By filter: a job"}},
    operation_id="retryDeadLetters",
)
@in_class(RequestClass.SLOW)
async def retry_dead_letters(
    body: DeadLetterChoice, caller: MayWriteDeliveries, request: Request, response: Response
) -> AffectedDeliveries | DeadLetterCount | JobDetails:
    """`ids` are retried at once; `filter` starts a job; both keep to their endpoints' pace. `countOnly` counts."""
    return await _run_action(JobKind.RETRY, body, caller, request, response)


@router.post(
    "/v1/dead-letters/discard",
    tags=["Dead letters"],
    summary="Discard dead letters",
    responses={202: {"model": JobDetails, "description": "By filter: a job"}},
    operation_id="discardDeadLetters",
)
@in_class(RequestClass.SLOW)
async def discard_dead_letters(
    body: DeadLetterChoice, caller: MayWriteDeliveries, request: Request, response: Response
) -> AffectedDeliveries | DeadLetterCount | JobDetails:
    """Only a replay that asks for discarded ones sends them again.

    `ids` are discarded at once; `filter` starts a job; `countOnly` counts.
    """
    return await _run_action(JobKind.DISCARD, body, caller, request, response)


async def _run_action(
    kind: JobKind, body: DeadLetterChoice, caller: Member, request: Request, response: Response
) -> AffectedDeliveries | DeadLetterCount | JobDetails:
    services = services_of(request)
    service = services.deliveries
    if body.filter is not None and body.ids is None:
        if body.count_only:
            dead_filter = replace(body.filter.to_filter(), account_id=caller.account_id, state=State.DEAD)
            counted_at = services.clock.now()
            return DeadLetterCount.of(await service.summary(dead_filter), counted_at=counted_at)
        response.status_code = 202
        return job_of(await service.start(kind, body.filter.to_filter(), caller.own_account_id, actor=caller.actor))
    if body.ids is None or body.filter is not None or body.count_only:
        raise Invalid(FieldError("ids", "name either ids or a filter ({} for all dead letters)"))
    action = service.retry_dead_letters if kind is JobKind.RETRY else service.discard_dead_letters
    return AffectedDeliveries.of(await action(body.ids, caller.account_id, actor=caller.actor))


async def _page(request: Request, delivery_filter: DeliveryFilter) -> Page[Delivery]:
    page = await services_of(request).deliveries.list(delivery_filter)
    return to_response_page(page, delivery_of)
