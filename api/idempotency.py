"""Idempotency-Key: a request with a key is done once, and a repetition gets the same response."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from fastapi import Request, Response

from api.admission import owner_of
from api.auth import authenticate
from api.services import services_of
from streams.core.errors import Conflict, FieldError, Invalid, Unavailable
from streams.core.limits import MAX_STORED_RESPONSE_BYTES
from streams.features.shared.idempotency import EarlierRequest, SqlIdempotencyStore

_KEY = re.compile(r"[!-~]{1,255}")
# A request that began longer ago has died; a repetition starts it again.
REQUEST_TIMEOUT = timedelta(seconds=60)

_STORED_HEADERS = ("etag", "location")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def handle_once(request: Request, key: str, handle: Handler) -> Response:
    """Handle a request once: the same request with the same key and caller, within a day, gets the stored response.

    Only successful responses are stored, encrypted, because they may contain a secret. A failed request did nothing
    and can be repeated. If a response is too large, only its status and its headers are stored.
    """
    require_key_form(key)
    services, caller = services_of(request), (await authenticate(request)).sender
    fingerprint = await fingerprint_of(request)
    now = services.clock.now()
    earlier_request = await begin_request(services.responses, caller, key, fingerprint, now)
    if earlier_request is not None:
        return _replay_response(request, earlier_request, fingerprint)
    try:
        response = await handle(request)
    except BaseException:
        await forget_request(services.responses, caller, key, now)
        raise
    headers = {name: value for name in _STORED_HEADERS if (value := response.headers.get(name))}
    ciphertext = services.encryption.encrypt(json.dumps([await _body_to_store(request, response), headers]))
    await finish_request(request, caller, key, now, response.status_code, ciphertext)
    return response


async def _body_to_store(request: Request, response: Response) -> str | None:
    body, caller = bytes(response.body), await authenticate(request)
    if len(body) > MAX_STORED_RESPONSE_BYTES:
        return None
    is_within_limit, _ = request.app.state.stored_responses.take(owner_of(caller), time.monotonic(), len(body))
    return body.decode() if is_within_limit else None


async def finish_request(
    request: Request, caller: str, key: str, begun_at: datetime, status: int, ciphertext: str
) -> None:
    """Store the response of a finished request. In an outage the response is sent but not stored."""
    services = services_of(request)
    try:
        await services.responses.finish(caller, key, begun_at, status, ciphertext)
    except Unavailable as error:
        services.telemetry.warning("response_not_stored", request_id=request.state.request_id, why=str(error))


async def forget_request(responses: SqlIdempotencyStore, caller: str, key: str, begun_at: datetime) -> None:
    """Forget a request that failed. In an outage, it counts as dead a minute later."""
    with suppress(Unavailable):
        await responses.forget(caller, key, begun_at)


async def begin_request(
    responses: SqlIdempotencyStore, caller: str, key: str, fingerprint: str, now: datetime
) -> EarlierRequest | None:
    """The earlier request with this key; None if this is the first, or the first one died."""
    earlier_request = await responses.begin(caller, key, fingerprint, now)
    if (
        earlier_request is not None
        and earlier_request.status is None
        and now - earlier_request.begun_at > REQUEST_TIMEOUT
    ):
        await responses.forget(caller, key, earlier_request.begun_at)
        return await responses.begin(caller, key, fingerprint, now)
    return earlier_request


def _replay_response(request: Request, earlier_request: EarlierRequest, fingerprint: str) -> Response:
    if earlier_request.fingerprint != fingerprint:
        raise Invalid(FieldError("Idempotency-Key", "was used for another request: use a new key"))
    if earlier_request.status is None or earlier_request.encrypted_response is None:
        raise Conflict("the first request with this Idempotency-Key is still in progress: try again in a moment")
    body, headers = json.loads(services_of(request).encryption.decrypt(earlier_request.encrypted_response))
    if body is None:
        location_hint = f": read {headers['location']} instead" if "location" in headers else ""
        raise Conflict(
            f"the first request with this Idempotency-Key was done, with status {earlier_request.status}; "
            f"its response was too large to be kept{location_hint}"
        )
    headers["Idempotent-Replayed"] = "true"
    return Response(body, earlier_request.status, headers, "application/json" if body else None)


def require_key_form(key: str) -> None:
    """Raise `Invalid` if an `Idempotency-Key` is malformed."""
    if not _KEY.fullmatch(key):
        raise Invalid(FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters, no space among them"))


async def fingerprint_of(request: Request) -> str:
    request_line = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(request_line + await request.body()).hexdigest()
