"""`POST /v1/events` before FastAPI's router, which would cost half as much as the event.

A route of FastAPI's without models took 0.2 ms more of 0.5 (bench/measurements.md). Unlike in other bodies, a name that
occurs twice in an event is not refused: orjson takes the last one. The standard library, which can see both, takes
twenty times as long.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.admission import owner_of, place
from api.auth import authenticate, require_scopes
from api.events.limits import EventLimits
from api.idempotency import require_key_form
from api.problems import NOT_JSON_MESSAGE, TooManyRequests, is_json, response_or_problem
from api.services import Services
from api.strict_route import check_query
from streams.core.accounts.access import Caller
from streams.core.accounts.access import Scope as KeyScope
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import Event
from streams.core.events.trace import SpanName, is_trace_parent
from streams.core.queues.request_class import RequestClass
from streams.features.events.ingest import check_count

EVENTS_PATH = "/v1/events"
_BOOLEANS = {"true": True, "false": False}


class _PublishRoute:
    """The name of this route in metrics and logs."""

    path = EVENTS_PATH


class PublishMiddleware:
    """Responds to `POST /v1/events`, and passes other requests on. OpenAPI has the route of api/events/routes.py."""

    def __init__(self, app: ASGIApp, services: Services, limits: EventLimits) -> None:
        self._app = app
        self._services = services
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != EVENTS_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = _PublishRoute
        scope["state"]["is_frequent"] = True
        request = Request(scope, receive)
        response = await response_or_problem(request, self._publish(request))
        await response(scope, receive, send)

    async def _publish(self, request: Request) -> Response:
        # Authenticate before the body is read: without a valid key we do not buffer it.
        caller = await authenticate(request, RequestClass.PUBLISH)
        require_scopes(caller, [KeyScope.EVENTS_WRITE])
        if caller.account_id is not None:
            async with place(request, RequestClass.PUBLISH, owner_of(caller, None)):
                body, items = await _read_events(request)
                return await self._publish_events(request, caller, body, items)
        # The account that an operator's call counts for is in its body.
        body, items = await _read_events(request)
        async with place(request, RequestClass.PUBLISH, owner_of(caller, _only_account(items))):
            return await self._publish_events(request, caller, body, items)

    async def _publish_events(
        self, request: Request, caller: Caller, body: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
    ) -> Response:
        is_counted = _is_counted(request)
        idempotency_key = await _idempotency_key(request, caller)
        self._limits.take(caller, (caller.account_id or item.get("accountId") for item in items))
        services = self._services
        trace_parent = request.headers.get("traceparent", "")
        span = services.telemetry.span(SpanName.PUBLISH, trace_parent if is_trace_parent(trace_parent) else None)
        try:
            events = await services.ingest.publish(items, caller.account_id, idempotency_key, span.trace_parent)
        except Invalid as error:
            # This is the caller's error, not a failure of the server.
            span.end({})
            raise restore_field_names(error, body) from None
        except BaseException as error:
            span.end({}, None if isinstance(error, TooManyRequests) else type(error).__name__)
            raise
        span.end({"events": len(events)})
        for event in events if services.telemetry.is_debug_enabled else ():
            services.telemetry.debug("event_accepted", event_id=event.id, request_id=request.state.request_id)
        counts = await services.recipients.count(events) if is_counted else None
        return Response(_response_body(events, counts), 202, media_type="application/json")


async def _read_events(request: Request) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """The body of a request, and its events. Raises the errors of `parse_body` and `events_of`."""
    body = parse_body(await request.body(), request.headers.get("content-type", ""))
    return body, events_of(body)


def _only_account(items: Sequence[Mapping[str, Any]]) -> object:
    """The account of all these events; None if they have several."""
    first_account = items[0].get("accountId")
    return first_account if all(item.get("accountId") == first_account for item in items) else None


def parse_body(body: bytes, content_type: str) -> Any:
    """The JSON of a request's body. Raises `HTTPException`, and `Invalid` without a body."""
    if not body:
        raise Invalid(FieldError("body", "is required"))
    if content_type != "application/json" and not is_json(content_type):
        raise HTTPException(415, NOT_JSON_MESSAGE)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # The standard library also accepts invalid JSON such as half of a surrogate pair. The checks of events report
        # it.
        pass
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise HTTPException(400, f"{error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error


def events_of(body: Any) -> Sequence[Mapping[str, Any]]:
    """The events of a request. Raises `Invalid`. Checks the number of events before the events."""
    if not isinstance(body, dict):
        raise Invalid(FieldError("body", "must be an object: one event, or `events` with a list of them"))
    items = body.get("events", [body])
    if not isinstance(items, list):
        raise Invalid(FieldError("events", "must be a list of events"))
    if "events" in body and len(body) > 1:
        raise Invalid(*(FieldError(name, "is not a field next to events") for name in body if name != "events"))
    check_count(items)
    if errors := [
        FieldError(f"events[{index}]", "must be an object")
        for index, item in enumerate(items)
        if not isinstance(item, dict)
    ]:
        raise Invalid(*errors)
    return items


def restore_field_names(invalid: Invalid, body: Mapping[str, Any]) -> Invalid:
    """The same errors, with the fields as the caller wrote them: `data.sessionId` for a single event."""
    if "events" in body:
        return invalid
    return Invalid(*(FieldError(error.field.removeprefix("events[0]."), error.message) for error in invalid.errors))


def _is_counted(request: Request) -> bool:
    if not request.scope["query_string"]:
        return False
    check_query(request, {"count"})
    is_counted = _BOOLEANS.get(request.query_params.get("count", "false").lower())
    if is_counted is None:
        raise Invalid(FieldError("count", "must be true or false"))
    return is_counted


async def _idempotency_key(request: Request, caller: Caller) -> str | None:
    """The seed of the events' ids: the caller, the key and the body. None without an `Idempotency-Key`."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    require_key_form(key)
    # The query is left out: counting webhooks in the response makes no other events.
    return f"{caller.sender}/{key}/{hashlib.sha256(await request.body()).hexdigest()}"


def _response_body(events: Sequence[Event], counts: Sequence[int | None] | None) -> bytes:
    details: list[dict[str, Any]] = [{"id": event.id} for event in events]
    for accepted_event, count in zip(details, counts or (), strict=False):
        if count is not None:
            accepted_event["webhooks"] = count
    return orjson.dumps({"ids": [event.id for event in events], "events": details})
