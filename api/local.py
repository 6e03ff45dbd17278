"""The API's routes for a command in this process. No keys, no rate limits; errors are raised as exceptions."""

from collections.abc import Mapping
from importlib import import_module

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from api.problems import to_invalid
from api.services import Services
from streams.api_variables import LOCAL_ACCOUNT_HEADER
from streams.core.accounts.access import ALL_SCOPES, OPERATOR, Caller
from streams.core.queues.request_class import request_limits
from streams.fair_places import FairPlaces

# The folders of `api/` with the routes below `/v1/<name>`.
_FEATURES_BY_PATH: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("webhooks", "pulls", "replays", "deliveries"),
    "deliveries": ("deliveries",),
    "dead-letters": ("deliveries",),
    "jobs": ("replays",),
    "events": ("events",),
    "learners": ("learners",),
    "accounts": ("accounts",),
    "unknown-accounts": ("accounts",),
    "audit": ("accounts",),
    "usage": ("usage",),
    "source-addresses": ("platform",),
}
_REQUEST_PLACES = 32


class LocalApp:
    """An ASGI application for one command. A feature's routes are imported at its first request.

    The header `X-Local-Account` limits a request to that account. Without it, a request may act in any account.
    """

    def __init__(self, services: Services, actor: str) -> None:
        self._app = FastAPI(openapi_url=None, exception_handlers={RequestValidationError: _raise_invalid})
        self._app.state.services = services
        self._app.state.places = FairPlaces(_REQUEST_PLACES, request_limits(_REQUEST_PLACES))
        self._actor = actor
        self._included_features: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._include(scope["path"].split("/")[2])
        account_id = Headers(scope=scope).get(LOCAL_ACCOUNT_HEADER)
        caller = Caller(self._actor, ALL_SCOPES | {OPERATOR}, account_id, is_local=True)
        await self._app({**scope, "state": {"caller": caller}}, receive, send)

    def _include(self, name: str) -> None:
        for feature in _FEATURES_BY_PATH[name]:
            if feature not in self._included_features:
                self._included_features.add(feature)
                self._app.include_router(import_module(f"api.{feature}.routes").router)


async def _raise_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    raise to_invalid(error)
