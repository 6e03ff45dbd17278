"""Errors for addresses without a page and for too large forms: as a page for people, as a problem for programs."""

from contextlib import suppress

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from api.problems import http_problem, our_problem
from api.shell.page_route import error_page, visitor_of, visitor_place
from streams.core.errors import NotFound, ScormWebhooksError
from streams.core.queues.request_class import RequestClass

_PAGES = {
    404: ("Not found", "There is no page at this address."),
    405: ("This address has no page", "A form sends its fields to it, and shows the outcome on another page."),
    413: ("The form is too large", "A form has at most 1 MiB."),
}
# The longest addresses of pages have five.
MAX_ADDRESS_PARTS = 8


def add_address_errors(app: FastAPI) -> None:
    """Show browsers an error page for unknown addresses."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(NotFound, _not_found)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code not in _PAGES or not _is_for_a_person(request):
        return await http_problem(request, error)
    response = await _page(request, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    return await (_page(request, 404) if _is_for_a_person(request) else our_problem(request, error))


async def _page(request: Request, status: int) -> Response:
    heading, sentence = _PAGES[status]
    visitor = None
    # Without a place, the page does not say who is signed in. A body that is too large is not read to its end for that.
    if status != 413:
        with suppress(ScormWebhooksError):
            async with visitor_place(request, RequestClass.PEOPLE):
                visitor = await visitor_of(request)
    return error_page(request, visitor, status, heading, [sentence], parent=_page_above(request))


def _is_for_a_person(request: Request) -> bool:
    """Whether a browser asks: browsers name HTML, which the API never has."""
    is_api = f"{request.url.path}/".startswith("/v1/")
    return "text/html" in request.headers.get("accept", "").lower() and not is_api


def _page_above(request: Request) -> str | None:
    """The nearest page above an address: `/webhooks/wh_1` for `/webhooks/wh_1/secret`."""
    path = request.url.path
    # For each part of the address all routes are tried, so an address with thousands of parts would block everybody.
    if path.count("/") > MAX_ADDRESS_PARTS:
        return None
    while path := path.rpartition("/")[0]:
        scope = {**request.scope, "path": path, "method": "GET"}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            return path
    return None
