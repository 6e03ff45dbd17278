"""The API's routes for a command in this process: without keys and rate limits; errors are exceptions, not problems."""

from collections.abc import Mapping
from importlib import import_module

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from api.problems import to_invalid
from api.services import Services
from streams.core.accounts.access import ALL_SCOPES, OPERATOR, Caller
from streams.core.queues.request_class import request_limits
from streams.fair_places import FairPlaces

# The modules with the routes below `/v1/<name>`.
_MODULES: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("webhooks", "replays"),
    "deliveries": ("deliveries",),
    "dead-letters": ("deliveries",),
    "jobs": ("replays",),
    "events": ("events",),
    "learners": ("learners",),
    "accounts": ("accounts",),
    "unknown-accounts": ("accounts",),
    "audit": ("accounts",),
    "usage": ("usage",),
}
_PLACES = 32


class LocalApp:
    """An ASGI application for one command. A feature's routes are imported at its first request.

    With the header `X-Local-Account` a request acts within that account, else as an operator within any.
    """

    def __init__(self, services: Services, actor: str) -> None:
        self._app = FastAPI(openapi_url=None, exception_handlers={RequestValidationError: _raise_invalid})
        self._app.state.services = services
        self._app.state.places = FairPlaces(_PLACES, request_limits(_PLACES))
        self._actor = actor
        self._included: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._include(scope["path"].split("/")[2])
        account_id = Headers(scope=scope).get("x-local-account")
        caller = Caller(self._actor, ALL_SCOPES | {OPERATOR}, account_id, is_local=True)
        await self._app({**scope, "state": {"caller": caller}}, receive, send)

    def _include(self, name: str) -> None:
        for feature in _MODULES[name]:
            if feature not in self._included:
                self._included.add(feature)
                self._app.include_router(import_module(f"api.{feature}.routes").router)


async def _raise_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    raise to_invalid(error)
