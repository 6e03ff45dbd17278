"""Accept the commits of SCORM players, from any page."""

import re
import time
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.admission import in_class, network_work, place
from api.course_sessions.commit_bodies import NotScorm, parse_commit
from api.problems import TooManyRequests, problem, response_or_problem
from api.public_files import PublicRoute
from api.services import services_of
from streams.core.errors import NotFound
from streams.core.queues.request_class import RequestClass
from streams.features.course_sessions.service import COMMIT_PATH

# Of one commit URL. A player commits every 10 s, and when a course requests it.
MAX_COMMITS_PER_SECOND = 20
# 256 random bits in URL-safe Base64.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
# The response that SCORM players accept as success.
_SUCCESS_BODY = b'{"result":true,"errorCode":0}'

router = APIRouter(tags=["SCORM player"])

Token = Annotated[str, Path(max_length=128, description="The end of the commit URL.")]


@router.post(
    f"{COMMIT_PATH}{{token}}",
    summary="Commit",
    responses={200: {"content": {"application/json": {"example": {"result": True, "errorCode": 0}}}}},
    response_class=Response,
    operation_id="commit",
)
@in_class(RequestClass.COMMIT)
async def commit(token: Token, request: Request) -> Response:
    """Accept a commit as scorm-again, Moodle or Open edX sends it; the token is the only credential.

    The format is detected from the body; the content type is ignored. A body without SCORM data gets 400, an unknown
    token 404, an expired token 410, and more than 20 commits a second 429.
    """
    return await _handle_commit(token, request)


async def _handle_commit(token: str, request: Request) -> Response:
    if not _TOKEN.fullmatch(token):
        raise NotFound("no session has this commit URL")
    is_allowed, bucket = request.app.state.commit_rates.take(token, time.monotonic())
    if not is_allowed:
        raise TooManyRequests(bucket.seconds_until_token, "commits of this session")
    course_sessions = services_of(request).course_sessions
    with network_work(request, RequestClass.COMMIT):
        account_id = await course_sessions.account_of(token)
    async with place(request, RequestClass.COMMIT, account_id):
        try:
            commit = parse_commit(await request.body(), request.headers.get("content-type", ""))
        except NotScorm as error:
            return problem(request, 400, "bad-request", "The body is not a SCORM commit", str(error))
        await course_sessions.commit(token, commit)
        return Response(_SUCCESS_BODY, media_type="application/json")


@in_class(RequestClass.COMMIT)
async def preflight(token: str) -> Response:
    """What a browser asks before it sends JSON from another origin.

    `CommitCorsMiddleware` adds what it wants to know.
    """
    return Response(status_code=204)


router.add_api_route(
    f"{COMMIT_PATH}{{token}}",
    preflight,
    methods=["OPTIONS"],
    include_in_schema=False,
    route_class_override=PublicRoute,
)


class _CommitRoute:
    """The name of this route in metrics and logs."""

    path = f"{COMMIT_PATH}{{token}}"


class CommitMiddleware:
    """Responds to commits before FastAPI's router, which would cost as much as the commit; others pass through.

    OpenAPI has the route above.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = _token_of(scope)
        if token is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _CommitRoute
        scope["state"]["is_frequent"] = True
        request = Request(scope, receive)
        response = await response_or_problem(request, _handle_commit(token, request))
        await response(scope, receive, send)


def _token_of(scope: Scope) -> str | None:
    """The token of a commit; None for another request."""
    if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(COMMIT_PATH):
        return None
    token: str = scope["path"].removeprefix(COMMIT_PATH)
    # The router responds to anything that does not look like a token.
    return token if _TOKEN.fullmatch(token) else None


class CommitCorsMiddleware:
    """Allow a player's page on any origin, in every response: an error without these headers looks like an outage.

    A beacon is sent with credentials, so the origin is named and credentials are allowed. No cookie is used here:
    only the token is the permission.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(COMMIT_PATH):
            await self._app(scope, receive, send)
            return
        request_headers = Headers(scope=scope)

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_cors_headers(MutableHeaders(scope=message), request_headers)
            await send(message)

        await self._app(scope, receive, send_with_cors)


def _add_cors_headers(headers: MutableHeaders, request_headers: Headers) -> None:
    headers["Cache-Control"] = "no-store"
    headers["Vary"] = "Origin"
    if origin := request_headers.get("origin"):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Max-Age"] = "86400"
        if names := request_headers.get("access-control-request-headers"):
            headers["Access-Control-Allow-Headers"] = names
