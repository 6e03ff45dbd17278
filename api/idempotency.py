"""A request with an Idempotency-Key is done once: whoever repeats it gets the same answer."""

import hashlib
import json
import re
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from fastapi import Request, Response

from api.auth import known_caller
from api.services import services_of
from streams.core.errors import Conflict, FieldError, Invalid, Unavailable
from streams.ports import EarlierRequest, IdempotencyStore

_KEY = re.compile(r"[!-~]{1,255}")
# One that began longer ago has died on the way; whoever repeats it then begins anew.
UNDER_WAY = timedelta(seconds=60)

_KEPT_HEADERS = ("etag", "location")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def once(request: Request, key: str, handle: Handler, works_without_database: bool = False) -> Response:
    """The same request with the same key, by the same caller within a day, is answered and not done again.

    Only what succeeded is kept, encrypted, for it may hold a secret. What failed did nothing and may be tried again.
    """
    if not _KEY.fullmatch(key):
        raise Invalid(FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters, no space among them"))
    services, caller = services_of(request), (await known_caller(request)).actor
    fingerprint = await _fingerprint(request)
    now = services.clock.now()
    # The request belongs to it: a key that is used for another one, a day later, names other events.
    request.state.repeat_key = f"{caller}/{key}/{fingerprint}"
    try:
        known = await _begin(services.responses, caller, key, fingerprint, now)
    except Unavailable:
        if not works_without_database:
            raise
        return await handle(request)
    if known is not None:
        return _again(request, known, fingerprint)
    try:
        response = await handle(request)
    except BaseException:
        await services.responses.forget(caller, key, now)
        raise
    headers = {name: value for name in _KEPT_HEADERS if (value := response.headers.get(name))}
    kept = services.encryption.encrypt(json.dumps([bytes(response.body).decode(), headers]))
    try:
        await services.responses.finish(caller, key, now, response.status_code, kept)
    except Unavailable as away:
        # It is done all the same, and whoever asked is to hear of it.
        services.telemetry.info("answer not kept", request_id=request.state.request_id, why=str(away))
    return response


async def _begin(
    responses: IdempotencyStore, caller: str, key: str, fingerprint: str, now: datetime
) -> EarlierRequest | None:
    """What is known of an earlier request; None when this one is the first, or the first one died on its way."""
    known = await responses.begin(caller, key, fingerprint, now)
    if known is not None and known.status is None and now - known.begun_at > UNDER_WAY:
        await responses.forget(caller, key, known.begun_at)
        return await responses.begin(caller, key, fingerprint, now)
    return known


def _again(request: Request, known: EarlierRequest, fingerprint: str) -> Response:
    if known.fingerprint != fingerprint:
        raise Invalid(FieldError("Idempotency-Key", "was used for another request: take a new one"))
    if known.status is None or known.encrypted_response is None:
        raise Conflict("the first request with this Idempotency-Key is still under way: try again in a moment")
    body, headers = json.loads(services_of(request).encryption.decrypt(known.encrypted_response))
    headers["Idempotent-Replayed"] = "true"
    return Response(body, known.status, headers, "application/json" if body else None)


async def _fingerprint(request: Request) -> str:
    what = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(what + await request.body()).hexdigest()
