"""A form that is sent twice acts once."""

import secrets
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.responses import Response

from api.idempotency import begin, finish, forget
from api.shell.forms import Form
from api.shell.rendering import redirect
from api.shell.visits import OperatorVisit, Visit
from streams.core.errors import Conflict

_FIELD = "once"
CHARACTERS = 64


def new_once() -> str:
    """The value of a form's hidden field `once`."""
    return secrets.token_urlsafe(16)


def acts_once(page: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """A page with a `visit` and a `form` acts unless this form was sent before: then it goes where the first one led.

    Raises `Conflict`. A response that shows errors did nothing, so the form may be sent again.
    """

    @wraps(page)
    async def acting(**arguments: Any) -> Response:
        return await _once(arguments["visit"], arguments["form"], lambda: page(**arguments))

    return acting


async def _once(visit: Visit | OperatorVisit, form: Form, act: Callable[[], Awaitable[Response]]) -> Response:
    key = form[_FIELD]
    if not key or len(key) > CHARACTERS or not key.isascii():
        return await act()
    services, caller, now = visit.services, f"page:{visit.session.id}", visit.services.clock.now()
    earlier_request = await begin(services.responses, caller, key, visit.request.url.path, now)
    if earlier_request is not None:
        if earlier_request.status is None or earlier_request.encrypted_response is None:
            raise Conflict("this form was sent already and is still being worked on: look at the list in a moment")
        if not (path := services.encryption.decrypt(earlier_request.encrypted_response)):
            raise Conflict("this form was sent already: what it made is in the list, and its secret was shown then")
        return redirect(path)
    try:
        response = await act()
    except BaseException:
        await forget(services.responses, caller, key, now)
        raise
    if response.status_code >= 400:
        await forget(services.responses, caller, key, now)
        return response
    ciphertext = services.encryption.encrypt(response.headers.get("location", ""))
    await finish(visit.request, caller, key, now, response.status_code, ciphertext)
    return response
