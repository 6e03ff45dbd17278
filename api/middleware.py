"""For every request: an id, a size limit, headers, a log line and metrics."""

import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from api.crashes import log_crash
from api.problems import BROKEN, problem
from api.services import Services
from api.start_turns import StartTurns

MAX_BODY_BYTES = 1024 * 1024
# For metrics and logs only: the client disconnected before its request was complete.
CLIENT_CLOSED_STATUS = 499
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_METHODS = {"GET", "HEAD", "POST", "PATCH", "DELETE"}
_UNLOGGED_PATHS = {"/healthz", "/readyz"}


class TooLarge(HTTPException):
    """The request's body is too large."""

    def __init__(self) -> None:
        super().__init__(413, f"The body is larger than {MAX_BODY_BYTES // 1024} KiB")


class RequestMiddleware:
    """The outermost middleware. An unexpected exception becomes a problem without details."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._telemetry = services.telemetry
        self._turns = StartTurns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        header_value = Headers(scope=scope).get("x-request-id", "")
        request_id = header_value if _REQUEST_ID.fullmatch(header_value) else f"req_{ULID()}"
        scope.setdefault("state", {})["request_id"] = request_id
        started_at, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), scope, request_id)
            await send(message)

        try:
            await self._turns.wait_for_turn(scope)
            await self._app(scope, _limit_body(scope, receive), send_with_headers)
        except ClientDisconnect:
            status = CLIENT_CLOSED_STATUS
        except Exception as error:
            log_crash(self._telemetry, request_id, error)
            if status == 0:
                response = problem(Request(scope), *BROKEN)
                await response(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started_at)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        if scope["path"] in _UNLOGGED_PATHS:
            return
        # The template, not the path: each id would make a series of its own.
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._telemetry.count("api_requests_total", method=method, route=route, status=str(status))
        # A reader that waits for a delivery is not slow.
        self._telemetry.observe("api_request_seconds", seconds - scope["state"].get("waited_seconds", 0.0))
        caller = scope["state"].get("caller")
        # A log line for each published event would cost more than the event.
        log = self._telemetry.debug if scope["state"].get("is_frequent") else self._telemetry.info
        log(
            "request_handled",
            request_id=scope["state"]["request_id"],
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            by=caller.actor if caller else None,
        )


def _add_headers(headers: MutableHeaders, scope: Scope, request_id: str) -> None:
    headers["X-Request-Id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    if scope["path"].startswith("/v1/"):
        headers.setdefault("Cache-Control", "no-store")
    for name, value in scope["state"].get("rate_headers", {}).items():
        headers[name] = value


def _limit_body(scope: Scope, receive: Receive) -> Receive:
    length = Headers(scope=scope).get("content-length", "0")
    announced_bytes = int(length) if length.isascii() and length.isdigit() else 0
    received_bytes = 0

    async def receive_limited() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if max(announced_bytes, received_bytes) > MAX_BODY_BYTES:
            raise TooLarge()
        return message

    return receive_limited
