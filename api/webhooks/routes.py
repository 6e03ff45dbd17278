"""Routes for webhooks."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from api.admission import in_class
from api.auth import MayReadWebhooks, MayWriteDeliveries, MayWriteWebhooks
from api.deliveries.models import DeliveryWithAttempts, JobDetails, delivery_with_attempts, job_of
from api.events.models import NewTest
from api.paging import CursorQuery, Limit, cursor_of
from api.services import services_of
from api.shared_models import Id, Page, to_response_page
from api.strict_route import StrictRoute
from api.visibility import visible
from api.webhooks.health_models import Health, Statistics, statistics_of, to_health
from api.webhooks.models import (
    Enabling,
    ListedWebhook,
    NewWebhook,
    RotatedWebhook,
    Rotation,
    Secret,
    Webhook,
    WebhookChanges,
    WebhookWithSecret,
    rotated_webhook,
    to_listed_webhook,
    to_webhook,
    to_webhook_with_secret,
)
from api.webhooks.option_models import to_input_values
from streams.core.errors import Stale
from streams.core.queues.request_class import RequestClass
from streams.core.webhooks.webhook import Registration
from streams.features.webhooks.stats import MAX_HOURS

router = APIRouter(prefix="/v1/webhooks", tags=["Webhooks"], route_class=StrictRoute)

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="The webhook's `ETag`: change it only if that is still the current one.",
    ),
]
_ETAG = re.compile(r'"([0-9]{1,19})"')


@router.post("", status_code=201, summary="Register a webhook", operation_id="registerWebhook")
async def register(
    body: NewWebhook, caller: MayWriteWebhooks, request: Request, response: Response
) -> WebhookWithSecret:
    """The webhook is active at once, unless `status` is `paused`. The response shows its signing secret.

    `propagated` is false when not all stages know the webhook within two seconds: until then it may miss events.
    """
    services = services_of(request)
    webhook_input = body.webhook_input(caller.own_account_id)
    result = await services.webhooks.register(
        webhook_input, body.status, is_temporary=body.temporary, actor=caller.actor
    )
    registration = result.change.registration
    response.headers["ETag"] = _etag(registration)
    response.headers["Location"] = f"/v1/webhooks/{registration.webhook.id}"
    return to_webhook_with_secret(result, services.clock.now())


@router.get("", summary="List webhooks, newest first", operation_id="listWebhooks")
async def list_webhooks(
    caller: MayReadWebhooks, request: Request, limit: Limit = 50, cursor: CursorQuery = None
) -> Page[ListedWebhook]:
    """The webhooks of the account, each with the number of ids in its scope.

    A page has fewer rows when their texts are long: go on until there is no `nextCursor`.
    """
    services = services_of(request)
    page = visible(await services.webhooks.page(caller.account_id, cursor_of(cursor), limit), caller.permissions)
    now = services.clock.now()
    return to_response_page(page, lambda registration: ListedWebhook.of_listed(registration, now))


@router.get("/{webhook_id}", summary="Show a webhook", operation_id="getWebhook")
async def show(webhook_id: Id, caller: MayReadWebhooks, request: Request, response: Response) -> Webhook:
    """Send its `ETag` as `If-Match` with a later change."""
    services = services_of(request)
    registration = visible(await services.webhooks.find(webhook_id, caller.account_id), caller.permissions)
    response.headers["ETag"] = _etag(registration)
    return Webhook.of_registration(registration, services.clock.now())


@router.patch("/{webhook_id}", summary="Change a webhook", operation_id="updateWebhook")
async def change(
    webhook_id: Id,
    body: WebhookChanges,
    caller: MayWriteWebhooks,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> Webhook:
    """Omitted fields do not change. A new URL starts a new health epoch."""
    services = services_of(request)
    changes, version = to_input_values(body.given()), _version(if_match)
    result = await services.webhooks.change(
        webhook_id, changes, actor=caller.actor, account_id=caller.account_id, version=version
    )
    response.headers["ETag"] = _etag(result.registration)
    return to_webhook(result, services.clock.now())


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", operation_id="deleteWebhook")
async def delete(webhook_id: Id, caller: MayWriteWebhooks, request: Request) -> None:
    """The webhook gets no more requests. Its pending deliveries become dead letters."""
    await services_of(request).webhooks.delete(webhook_id, actor=caller.actor, account_id=caller.account_id)


@router.post("/{webhook_id}/test", summary="Send a test event", operation_id="sendTestEvent")
@in_class(RequestClass.WAITING)
async def send_test(
    webhook_id: Id, caller: MayWriteWebhooks, request: Request, body: NewTest | None = None
) -> DeliveryWithAttempts:
    """One synthetic event, marked `"test": true`, on the real path, even to a paused webhook.

    The response has the outcome, as soon as there is one. A test that has not left after 12 seconds expires. Without an
    outcome 15 seconds after the longest time of an attempt (25 seconds by default) the response is 503, and says which
    part is missing. A test is not retried and does not count for health or statistics. Two tests of a webhook and ten
    of an account may wait; another one gets 409.
    """
    test = body or NewTest()
    details = await services_of(request).synthetic_events.send(webhook_id, test.type, caller.account_id, test.data)
    return delivery_with_attempts(details)


@router.post("/{webhook_id}/pause", summary="Pause a webhook", operation_id="pauseWebhook")
async def pause(webhook_id: Id, caller: MayWriteWebhooks, request: Request) -> ListedWebhook:
    """Only tests are sent. Deliveries are held."""
    services = services_of(request)
    result = await services.webhooks.pause(webhook_id, actor=caller.actor, account_id=caller.account_id)
    return to_listed_webhook(result, services.clock.now())


@router.post("/{webhook_id}/enable", summary="Enable a webhook", operation_id="enableWebhook")
async def enable(
    webhook_id: Id, caller: MayWriteWebhooks, request: Request, body: Enabling | None = None
) -> ListedWebhook:
    """Requests are sent again, in a new health epoch. `held` decides about held deliveries."""
    services, choice = services_of(request), (body or Enabling()).held
    result = await services.webhooks.enable(webhook_id, choice, actor=caller.actor, account_id=caller.account_id)
    return to_listed_webhook(result, services.clock.now())


@router.post(
    "/{webhook_id}/retry-waiting",
    status_code=202,
    summary="Send all waiting retries now",
    operation_id="retryWaitingDeliveries",
)
async def retry_waiting(webhook_id: Id, caller: MayWriteDeliveries, request: Request) -> JobDetails:
    """For use after a repair. It becomes a job; each delivery gets a fresh schedule."""
    services = services_of(request)
    webhook = (await services.webhooks.find(webhook_id, caller.account_id)).webhook
    return job_of(await services.deliveries.retry_waiting(webhook_id, webhook.account_id, actor=caller.actor))


@router.post("/{webhook_id}/secret", summary="Show the signing secret", operation_id="getSigningSecret")
async def show_secret(webhook_id: Id, caller: MayWriteWebhooks, request: Request) -> Secret:
    """The newest secret. The audit log records that it was shown."""
    services = services_of(request)
    return Secret(secret=await services.secrets.show(webhook_id, actor=caller.actor, account_id=caller.account_id))


@router.post("/{webhook_id}/secret/rotate", summary="Rotate the signing secret", operation_id="rotateSigningSecret")
async def rotate(
    webhook_id: Id, caller: MayWriteWebhooks, request: Request, body: Rotation | None = None
) -> RotatedWebhook:
    """The response shows the new secret. Both secrets are valid until the overlap ends.

    Meanwhile `webhook-signature` has both signatures, the platform's own header has the old one, and the header that
    ends in `-Next` has the new one.
    """
    services, hours = services_of(request), (body or Rotation()).overlap_hours
    result = await services.secrets.rotate(webhook_id, hours, actor=caller.actor, account_id=caller.account_id)
    return rotated_webhook(result, services.clock.now())


@router.post(
    "/{webhook_id}/secret/finish-rotation", summary="End the old secret now", operation_id="endOldSigningSecret"
)
async def finish_rotation(webhook_id: Id, caller: MayWriteWebhooks, request: Request) -> ListedWebhook:
    """Without a rotation nothing changes."""
    services = services_of(request)
    result = await services.secrets.finish_rotation(webhook_id, actor=caller.actor, account_id=caller.account_id)
    return to_listed_webhook(result, services.clock.now())


@router.get("/{webhook_id}/health", summary="How a webhook is", operation_id="getWebhookHealth")
async def health(webhook_id: Id, caller: MayReadWebhooks, request: Request) -> Health:
    """The failure streak and the pause."""
    services = services_of(request)
    return to_health(await services.webhook_stats.health(await services.webhooks.find(webhook_id, caller.account_id)))


@router.get("/{webhook_id}/stats", summary="A webhook in numbers", operation_id="getWebhookStats")
@in_class(RequestClass.SLOW)
async def stats(
    webhook_id: Id,
    caller: MayReadWebhooks,
    request: Request,
    hours: Annotated[int, Query(ge=1, le=MAX_HOURS, description="How many hours, the current one included.")] = 24,
) -> Statistics:
    """Attempts by hour and outcome, response times by hour, and deliveries that wait, are held or dead now."""
    services = services_of(request)
    registration = await services.webhooks.find(webhook_id, caller.account_id)
    return statistics_of(await services.webhook_stats.stats(registration, hours))


def _etag(registration: Registration) -> str:
    return f'"{registration.webhook.version}"'


def _version(if_match: str | None) -> int | None:
    """The version in an If-Match (RFC 9110 §13.1.1); None for any. Raises `Stale` for any other kind of ETag."""
    if if_match is None or if_match.strip() == "*":
        return None
    tag = _ETAG.fullmatch(if_match.strip())
    if tag is None:
        raise Stale("If-Match must be the ETag of this webhook")
    return int(tag[1])
