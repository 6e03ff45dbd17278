"""Routes that refuse unknown and repeated names, omit absent values, and support Idempotency-Key."""

import json
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.admission import class_of, owner_of, place
from api.auth import authenticate
from api.idempotency import Handler, handle_once
from streams.core.errors import FieldError, Invalid
from streams.core.queues.request_class import RequestClass


class StrictRoute(APIRoute):
    """Reject unknown and repeated names: a mistyped filter would match everything."""

    request_class = RequestClass.PEOPLE

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **{**options, "response_model_exclude_none": True})

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        query_names = _query_names(self.dependant)
        request_class = class_of(self)
        # The stored items would be useless: other readers may have leased them since.
        is_repeatable = "POST" in (self.methods or ()) and request_class is not RequestClass.PULL

        async def handler(request: Request) -> Response:
            # Authenticate before the body is read: without a valid key we do not buffer it.
            caller = await authenticate(request, request_class)
            async with place(request, request_class, owner_of(caller, await _named_account(request))):
                return await handle_strictly(request)

        async def handle_strictly(request: Request) -> Response:
            check_query(request, query_names)
            _refuse_repeated_names(await request.body())
            key = request.headers.get("idempotency-key") if is_repeatable else None
            return await handle(request) if key is None else await handle_once(request, key, handle)

        return handler


def check_query(request: Request, names: Collection[str]) -> None:
    """Raise `Invalid` for a parameter that is not one of `names`, or that occurs twice."""
    if not request.scope["query_string"]:
        return
    # No parameter is a list: all values but one would be ignored.
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if unknown_names := sorted(counts.keys() - names):
        message = f"is not a parameter here; the parameters are {', '.join(sorted(names)) or 'none'}"
        raise Invalid(*(FieldError(name, message) for name in unknown_names))
    if repeated_names := [name for name, count in counts.items() if count > 1]:
        raise Invalid(*(FieldError(name, "may occur once") for name in repeated_names))


async def _named_account(request: Request) -> object:
    """The account that an operator acts for: in the path, the query or the body."""
    caller = await authenticate(request)
    if caller.account_id is not None:
        return None
    named_account = request.path_params.get("account_id") or request.query_params.get("accountId")
    if named_account is None and request.method in ("POST", "PATCH"):
        with suppress(ValueError, RecursionError):
            body = json.loads(await request.body())
            named_account = body.get("accountId") if isinstance(body, dict) else None
    return named_account


def _refuse_repeated_names(body: bytes) -> None:
    """Raise `Invalid` for a JSON body with a name twice in one object: all values but one would be ignored."""
    if not body:
        return
    # Other errors of the body are refused with their own message.
    with suppress(ValueError, RecursionError):
        json.loads(body, object_pairs_hook=_require_single_names)


def _require_single_names(pairs: list[tuple[str, Any]]) -> None:
    # A mebibyte has hundreds of thousands of small objects: most are handled here.
    if len(dict(pairs)) == len(pairs):
        return
    names = Counter(name for name, _ in pairs)
    raise Invalid(*(FieldError(name, "occurs twice in one object") for name, count in names.items() if count > 1))


def _query_names(dependant: Dependant) -> set[str]:
    own_names = {
        name
        for parameter in dependant.query_params
        for name in _names(parameter.field_info.annotation, parameter.alias)
    }
    return own_names.union(*(_query_names(part) for part in dependant.dependencies))


def _names(kind: object, name: str) -> set[str]:
    """The name of a parameter, or the names of a model's fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {field.alias or name for name, field in kind.model_fields.items()}
    return {name}
