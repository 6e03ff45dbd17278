"""Routes of pages: an error is a page that explains it, and forms are accepted only from pages of the dashboard."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response

from api.admission import class_of, network_owner, place
from api.crashes import log_crash
from api.problems import LOG_ONLY_ERRORS, TooManyRequests, kind_of, public_detail
from api.shell.forms import with_query
from api.shell.rendering import redirect, render
from api.shell.security import add_security_headers, cookie_name, require_same_origin
from api.shell.sentences import sentences_of, to_sentence
from api.shell.visits import (
    ChoiceNeeded,
    OperatorNeeded,
    OperatorVisit,
    SignInNeeded,
    Visit,
    operator_of,
    session_of,
    site_of,
    visit_of,
)
from streams.core.errors import ScormWebhooksError, Unauthorized, Unavailable
from streams.core.queues.request_class import RequestClass

_REFUSAL_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Too many requests</title><link rel="icon" href="data:,"></head>
<body><h1>Too many requests</h1><p>{sentence}</p>{link}</body>
</html>
"""


class PageRoute(APIRoute):
    """A route of the dashboard."""

    request_class = RequestClass.PEOPLE

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        request_class = class_of(self)

        async def handle(request: Request) -> Response:
            try:
                async with visitor_place(request, request_class):
                    return await respond(request)
            except ScormWebhooksError as error:
                # There was no place, or the database does not respond.
                return await _error_page(request, error)

        async def respond(request: Request) -> Response:
            try:
                if request.method not in ("GET", "HEAD"):
                    require_same_origin(request, site_of(request))
                return await handler(request)
            except SignInNeeded:
                # A form cannot be repeated after the sign-in, but its page can.
                target = request.url.path if request.method == "GET" else "/"
                query = request.url.query if request.method == "GET" else ""
                return redirect(with_query("/sign-in", next=target + (f"?{query}" if query else "")))
            except ChoiceNeeded:
                session = await session_of(request)
                return redirect("/operator" if session and session.is_operator else "/choose-account")
            except OperatorNeeded:
                return redirect("/operator/sign-in")
            except ScormWebhooksError as error:
                return await _error_page(request, error)
            except (HTTPException, RequestValidationError, ClientDisconnect):
                raise
            except Exception as error:
                log_crash(request.app.state.services.telemetry, request.state.request_id, error)
                sentence = "The error is in our own code. The operator finds it in the log by the id of the request."
                return error_page(request, None, 500, "This failed", [sentence])

        return handle


@asynccontextmanager
async def visitor_place(request: Request, request_class: RequestClass) -> AsyncIterator[None]:
    """Hold a place of the signed-in person. Raises `TooManyRequests`.

    Looking up the person takes a place too, so that a flood is refused before it reaches the database.
    """
    async with place(request, request_class, unverified_owner(request)):
        owner = await _owner_of(request)
        await _limit_rate(request, owner)
    async with place(request, request_class, owner):
        yield


def unverified_owner(request: Request) -> str:
    """The network and the cookie of a browser: customers behind one proxy do not use up each other's places."""
    cookie = request.cookies.get(cookie_name(request, site_of(request)))
    return f"{network_owner(request)} {hash(cookie)}" if cookie else network_owner(request)


async def _owner_of(request: Request) -> str:
    """The owner that a page counts for: the signed-in account, the operator, or the network of an unknown browser."""
    session = await session_of(request)
    if session is None:
        return network_owner(request)
    owner = f"{session.actor} {session.account_id or ''}" if session.is_operator else session.account_id
    return owner or session.actor


async def _limit_rate(request: Request, owner: str) -> None:
    """Count a page of a signed-in person. Raises `TooManyRequests`.

    Pages do not count for the limit of keys: a program must not lock people out.
    """
    if await session_of(request) is None:
        return
    is_allowed, bucket = request.app.state.page_rates.take(owner, time.monotonic())
    if not is_allowed:
        raise TooManyRequests(bucket.seconds_until_token, "pages of this account")


def _refusal(request: Request, error: TooManyRequests) -> Response:
    """The page of a 429. In a flood nothing is rendered."""
    link = '<p><a href="">Try again</a></p>' if request.method == "GET" else ""
    response = HTMLResponse(_REFUSAL_PAGE.format(sentence=sentences_of(error)[0], link=link), 429)
    add_security_headers(response, site_of(request))
    response.headers["Retry-After"] = str(error.retry_seconds)
    return response


async def _error_page(request: Request, error: ScormWebhooksError) -> Response:
    if isinstance(error, TooManyRequests):
        return _refusal(request, error)
    status, _, _, heading = kind_of(error) or (500, "", "", None)
    if heading is None:
        raise error
    is_public = not isinstance(error, LOG_ONLY_ERRORS)
    if not is_public:
        request.app.state.services.telemetry.info("request_failed", request_id=request.state.request_id, why=str(error))
    sentences = sentences_of(error) if is_public else [to_sentence(public_detail(error))]
    # Finding out who this is costs queries: skip it if the database is away.
    visitor = None if isinstance(error, Unavailable) else await visitor_of(request)
    return error_page(request, visitor, 403 if isinstance(error, Unauthorized) else status, heading, sentences)


async def visitor_of(request: Request) -> Visit | OperatorVisit | None:
    """The signed-in person, for the header of an error page."""
    for find in (visit_of, operator_of):
        with suppress(ScormWebhooksError):
            return await find(request)
    return None


def error_page(
    request: Request,
    visitor: Visit | OperatorVisit | None,
    status: int,
    heading: str,
    sentences: Sequence[str],
    parent: str | None = None,
) -> Response:
    """A page with what happened, and where to go from here: to the page above, if there is one."""
    is_operator = isinstance(visitor, OperatorVisit)
    return render(
        visitor or request,
        "error.html",
        status=status,
        # The address of a form has no page.
        return_path=None if request.method == "GET" and status != 405 else "/operator" if is_operator else "/",
        heading=heading,
        sentences=sentences,
        parent=parent,
        request_id=request.state.request_id,
        can_retry=status == 503 and request.method == "GET",
    )
