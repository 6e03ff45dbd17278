"""Admit requests: each class has its places, in which accounts take turns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.routing import BaseRoute

from api.problems import TooManyRequests
from api.services import services_of
from api.shell.security import client_address, network_of
from streams.core.accounts.access import Caller
from streams.core.limits import MAX_ID_CHARACTERS
from streams.core.queues.request_class import RequestClass
from streams.fair_places import FairPlaces, NoPlace
from streams.request_owner import RequestOwner, work_for

# A request waits this long for a place.
MAX_WAIT_SECONDS = 1.0
RETRY_SECONDS = 1

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def in_class(request_class: RequestClass) -> Callable[[Endpoint], Endpoint]:
    """Give a route's function another class than its kind of route has."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)["request_class"] = request_class
        return endpoint

    return mark


def class_of(route: BaseRoute) -> RequestClass:
    """The class of a route, from its function or its kind of route. Raises `LookupError` if neither has one."""
    for marked in (getattr(route, "endpoint", None), route):
        if request_class := getattr(marked, "request_class", None):
            return RequestClass(request_class)
    path = getattr(route, "path", route)
    raise LookupError(f"{path}: this route needs a class: mark its function by `in_class`")


def network_work(request: Request, request_class: RequestClass) -> AbstractContextManager[None]:
    """Let the look-up of a caller take turns at the database with other networks. It waits, and is never refused."""
    return work_for(RequestOwner(request_class, network_owner(request), asyncio.get_running_loop().time()))


def network_owner(request: Request) -> str:
    """The network of a client that is not identified yet."""
    return f"network {network_of(client_address(request, request.app.state.site))}"


@asynccontextmanager
async def place(request: Request, request_class: RequestClass, owner: str | None = None) -> AsyncIterator[None]:
    """Hold a place of the owner, or of the client's network before the client is identified. Raises `TooManyRequests`.

    For an owner the body is read first: a client that sends it slowly holds a connection, but no place.
    """
    if owner is not None:
        await request.body()
    owner, owner_kind = (network_owner(request), "network") if owner is None else (owner, "account")
    places: FairPlaces = request.app.state.places
    began_at = asyncio.get_running_loop().time()
    try:
        await places.acquire(request_class, owner, MAX_WAIT_SECONDS)
    except NoPlace:
        # A flood is counted; a line for each request would cost more than the response.
        request.state.is_frequent = True
        services_of(request).telemetry.count("api_requests_without_place_total", request_class=request_class)
        raise TooManyRequests(RETRY_SECONDS, f"requests of this {owner_kind} at once") from None
    try:
        with work_for(RequestOwner(request_class, owner, began_at)):
            yield
    finally:
        places.release(request_class, owner)


def owner_of(caller: Caller, account_id: object = None) -> str:
    """The account that a call counts for: the caller's own, or the one that an operator acts for.

    An operator's calls count separately from the account's own, so a customer cannot stop the platform's work for it.
    """
    if caller.account_id is not None and not caller.is_operator:
        return caller.account_id
    account_id = caller.account_id or account_id
    return f"{caller.actor} {account_id[:MAX_ID_CHARACTERS] if isinstance(account_id, str) else ''}"
