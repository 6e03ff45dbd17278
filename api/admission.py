"""Admit requests: each class has its places, in which accounts take turns."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager

from fastapi import Request
from starlette.routing import Route

from api.problems import TooManyRequests
from api.services import services_of
from api.shell.security import client_address, network_of
from streams.core.accounts.access import Caller
from streams.core.limits import MAX_ID_CHARACTERS
from streams.core.queues.request_class import RequestClass
from streams.fair_places import FairPlaces, NoPlace
from streams.request_owner import RequestOwner, work_for

# A request waits this long for a place.
MAX_WAIT_SECONDS = 1.0
RETRY_SECONDS = 1

# Every route is in one class. A missing route stops the process at its start, or fails a test if a middleware
# responds to it.
_ROUTES: Mapping[RequestClass, str] = {
    RequestClass.PUBLISH: """
        POST /v1/events
    """,
    RequestClass.COMMIT: """
        POST /runtime/commit/{token}
        OPTIONS /runtime/commit/{token}
        POST /v1/sessions
        POST /v1/sessions/{session_id}/close
    """,
    RequestClass.PULL: """
        POST /v1/webhooks/{webhook_id}/pull
    """,
    RequestClass.WAITING: """
        POST /v1/webhooks/{webhook_id}/test
        POST /webhooks/{webhook_id}/test
    """,
    RequestClass.SLOW: """
        GET /v1/events/{event_id}
        POST /v1/learners/erase
        POST /v1/deliveries/retry
        POST /v1/dead-letters/retry
        POST /v1/dead-letters/discard
        POST /v1/webhooks/{webhook_id}/replays
        GET /v1/webhooks/{webhook_id}/stats
        GET /v1/webhooks/{webhook_id}/deliveries/summary
        GET /webhooks/{webhook_id}/deliveries.csv
        GET /v1/usage
        GET /v1/usage/{month}
        GET /events
        POST /webhooks/new
        POST /webhooks/{webhook_id}/edit
        GET /deliveries/retry
        POST /deliveries/retry
        GET /dead-letters/preview
        POST /dead-letters
        GET /webhooks/{webhook_id}/replay
        POST /webhooks/{webhook_id}/replay
        POST /account/learners
        POST /account/learners/erase
        GET /usage/{month}.csv
        GET /operator/stages
    """,
    RequestClass.PEOPLE: """
        POST /v1/webhooks
        GET /v1/webhooks
        GET /v1/webhooks/{webhook_id}
        PATCH /v1/webhooks/{webhook_id}
        DELETE /v1/webhooks/{webhook_id}
        POST /v1/webhooks/{webhook_id}/pause
        POST /v1/webhooks/{webhook_id}/enable
        POST /v1/webhooks/{webhook_id}/ack
        POST /v1/webhooks/{webhook_id}/nack
        POST /v1/webhooks/{webhook_id}/retry-waiting
        POST /v1/webhooks/{webhook_id}/secret
        POST /v1/webhooks/{webhook_id}/secret/rotate
        POST /v1/webhooks/{webhook_id}/secret/finish-rotation
        GET /v1/webhooks/{webhook_id}/health
        GET /v1/deliveries
        GET /v1/deliveries/{delivery_id}
        GET /v1/deliveries/{delivery_id}/attempts
        POST /v1/deliveries/{delivery_id}/retry
        GET /v1/dead-letters
        GET /v1/jobs/{job_id}
        POST /v1/jobs/{job_id}/cancel
        GET /v1/event-types
        GET /v1/source-addresses
        GET /v1/learners/erasures/{erasure_id}
        POST /v1/accounts
        GET /v1/accounts
        GET /v1/unknown-accounts
        GET /v1/accounts/{account_id}
        PATCH /v1/accounts/{account_id}
        POST /v1/accounts/{account_id}/keys
        GET /v1/accounts/{account_id}/keys
        DELETE /v1/accounts/{account_id}/keys/{key_id}
        POST /v1/accounts/{account_id}/users
        GET /v1/accounts/{account_id}/users
        DELETE /v1/accounts/{account_id}/users/{user_id}
        PATCH /v1/accounts/{account_id}/users/{user_id}
        POST /v1/accounts/{account_id}/users/{user_id}/sign-in-links
        POST /v1/accounts/{account_id}/portal-links
        GET /v1/accounts/{account_id}/sessions
        DELETE /v1/accounts/{account_id}/sessions/{session_id}
        GET /v1/audit
        GET /v1/account
        GET /v1/account/audit
        GET /v1/notifications
        GET /v1/sessions/{session_id}
        GET /sign-in
        POST /sign-in
        GET /sign-in/oidc
        GET /sign-in/oidc/callback
        GET /sign-in/code
        POST /sign-in/code
        GET /sign-in/{token}
        POST /sign-in/{token}
        GET /choose-account
        POST /choose-account
        POST /sign-out
        POST /zone
        POST /theme
        GET /
        GET /webhooks
        GET /webhooks/new
        GET /webhooks/{webhook_id}
        GET /webhooks/{webhook_id}/edit
        GET /webhooks/{webhook_id}/code
        POST /webhooks/{webhook_id}/pause
        POST /webhooks/{webhook_id}/enable
        POST /webhooks/{webhook_id}/secret
        POST /webhooks/{webhook_id}/secret/rotate
        POST /webhooks/{webhook_id}/secret/finish-rotation
        GET /webhooks/{webhook_id}/delete
        POST /webhooks/{webhook_id}/delete
        GET /events/types
        GET /deliveries
        GET /deliveries/{delivery_id}
        GET /deliveries/{delivery_id}/payload
        POST /deliveries/{delivery_id}/retry
        GET /dead-letters
        GET /jobs/{job_id}
        POST /jobs/{job_id}/cancel
        GET /account
        POST /notifications
        POST /account/keys
        POST /account/keys/{key_id}/revoke
        POST /account/keys/{key_id}/remove
        GET /account/terminal
        POST /account/terminal
        POST /account/terminal/{key_id}/disconnect
        POST /account/users
        POST /account/users/{user_id}/role
        POST /account/users/{user_id}/remove
        POST /account/sessions/{session_id}/revoke
        GET /audit
        GET /notifications
        GET /account/learners
        GET /account/erasures/{erasure_id}
        GET /usage
        GET /operator
        GET /operator/sign-in
        POST /operator/sign-in
        POST /operator/accounts
        POST /operator/accounts/{account_id}/plan-limit
        POST /operator/accounts/{account_id}/enter
        POST /operator/leave
    """,
    RequestClass.PROBE: """
        GET /healthz
        GET /readyz
    """,
    RequestClass.PUBLIC: """
        GET /docs
        GET /docs/api
        GET /docs/api/
        GET /docs/api/{name}
        GET /docs/{path:path}
        GET /llms.txt
        GET /openapi.json
        GET /static/theme.css
        GET /static/{version}/{name}
    """,
}
CLASSES: dict[str, RequestClass] = {
    line.strip(): request_class for request_class, lines in _ROUTES.items() for line in lines.strip().splitlines()
}


def class_of(route: Route) -> RequestClass:
    """The class of a route. Raises `KeyError` for a route that is in no class."""
    [request_class] = {CLASSES[f"{method} {route.path}"] for method in (route.methods or set()) - {"HEAD"}}
    return request_class


def network_work(request: Request, request_class: RequestClass) -> AbstractContextManager[None]:
    """Let what finds out who asks take turns at the database with other networks. It waits, and is never refused."""
    return work_for(RequestOwner(request_class, network_owner(request), asyncio.get_running_loop().time()))


def network_owner(request: Request) -> str:
    """The network of a client that is not known yet."""
    return f"network {network_of(client_address(request, request.app.state.site))}"


@asynccontextmanager
async def place(request: Request, request_class: RequestClass, owner: str | None = None) -> AsyncIterator[None]:
    """Hold a place of the owner, or of the client's network before it is known who asks. Raises `TooManyRequests`.

    For an owner the body is read before: a client that sends it slowly holds a connection, but no place.
    """
    if owner is not None:
        await request.body()
    owner, owner_kind = (network_owner(request), "network") if owner is None else (owner, "account")
    places: FairPlaces = request.app.state.places
    began_at = asyncio.get_running_loop().time()
    try:
        await places.acquire(request_class, owner, MAX_WAIT_SECONDS)
    except NoPlace:
        # A flood is counted; a line for each request would cost more than the response.
        request.state.is_frequent = True
        services_of(request).telemetry.count("api_requests_without_place_total", request_class=request_class)
        raise TooManyRequests(RETRY_SECONDS, f"requests of this {owner_kind} at once") from None
    try:
        with work_for(RequestOwner(request_class, owner, began_at)):
            yield
    finally:
        places.release(request_class, owner)


def owner_of(caller: Caller, account_id: object) -> str:
    """The account that a call counts for: its own, or for an operator the account that it acts for.

    An operator's calls count separately from the account's own, so a customer cannot stop the platform's work for it.
    """
    if caller.account_id is not None:
        return caller.account_id
    return f"{caller.actor} {account_id[:MAX_ID_CHARACTERS] if isinstance(account_id, str) else ''}"
