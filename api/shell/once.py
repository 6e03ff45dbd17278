"""A form that is sent twice acts once."""

import secrets
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.responses import Response

from api.idempotency import begin_request, finish_request, forget_request
from api.shell.forms import Form
from api.shell.rendering import redirect
from api.shell.visits import OperatorVisit, Visit
from streams.core.errors import Conflict

_FIELD = "once"
MAX_KEY_CHARACTERS = 64


def new_form_key() -> str:
    """The value of a form's hidden field `once`."""
    return secrets.token_urlsafe(16)


def run_once(page: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Make a page with a `visit` and a `form` act once: a form that is sent again redirects to the same page as the
    first time.

    Raises `Conflict`. A response that shows errors did nothing, so the form may be sent again.
    """

    @wraps(page)
    async def wrapper(**arguments: Any) -> Response:
        return await _run_once(arguments["visit"], arguments["form"], lambda: page(**arguments))

    return wrapper


async def _run_once(visit: Visit | OperatorVisit, form: Form, action: Callable[[], Awaitable[Response]]) -> Response:
    key = form[_FIELD]
    if not key or len(key) > MAX_KEY_CHARACTERS or not key.isascii():
        return await action()
    services, caller, now = visit.services, f"page:{visit.session.id}", visit.services.clock.now()
    earlier_request = await begin_request(services.responses, caller, key, visit.request.url.path, now)
    if earlier_request is not None:
        if earlier_request.status is None or earlier_request.encrypted_response is None:
            raise Conflict("this form was sent already and is still being worked on: look at the list in a moment")
        if not (path := services.encryption.decrypt(earlier_request.encrypted_response)):
            raise Conflict("this form was sent already: what it made is in the list, and its secret was shown then")
        return redirect(path)
    try:
        response = await action()
    except BaseException:
        await forget_request(services.responses, caller, key, now)
        raise
    if response.status_code >= 400:
        await forget_request(services.responses, caller, key, now)
        return response
    ciphertext = services.encryption.encrypt(response.headers.get("location", ""))
    await finish_request(visit.request, caller, key, now, response.status_code, ciphertext)
    return response
