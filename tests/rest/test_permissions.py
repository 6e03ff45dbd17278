"""Every route requires its scope, and no account sees the data of another."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.shell.page_route import PageRoute
from builders import attempt, delivery
from rest.api_fixture import ApiClient, ApiFixture
from streams.core.accounts.access import ALL_ACCOUNTS, OPERATOR, Scope
from streams.features.shared.accounts import SqlApiKeys

OPEN = {
    "/healthz",
    "/readyz",
    "/docs",
    "/docs/api",
    "/docs/api/",
    "/docs/api/{name}",
    "/docs/{path:path}",
    "/llms.txt",
    "/openapi.json",
    # The token in the path is the credential.
    "/runtime/commit/{token}",
}
ANY_SCOPE = ""
# The scope of each route, repeated here so that a mistake in one of them fails a test.
NEEDS = {
    "POST /v1/webhooks": "webhooks:write",
    "GET /v1/webhooks": "webhooks:read",
    "GET /v1/webhooks/{webhook_id}": "webhooks:read",
    "PATCH /v1/webhooks/{webhook_id}": "webhooks:write",
    "DELETE /v1/webhooks/{webhook_id}": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/test": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/pause": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/enable": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/pull": "deliveries:write",
    "POST /v1/webhooks/{webhook_id}/ack": "deliveries:write",
    "POST /v1/webhooks/{webhook_id}/nack": "deliveries:write",
    "POST /v1/webhooks/{webhook_id}/retry-waiting": "deliveries:write",
    "POST /v1/webhooks/{webhook_id}/secret": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/secret/rotate": "webhooks:write",
    "POST /v1/webhooks/{webhook_id}/secret/finish-rotation": "webhooks:write",
    "GET /v1/webhooks/{webhook_id}/health": "webhooks:read",
    "GET /v1/webhooks/{webhook_id}/stats": "webhooks:read",
    "GET /v1/deliveries": "deliveries:read",
    "GET /v1/deliveries/{delivery_id}": "deliveries:read",
    "GET /v1/deliveries/{delivery_id}/attempts": "deliveries:read",
    "POST /v1/deliveries/{delivery_id}/retry": "deliveries:write",
    "POST /v1/deliveries/retry": "deliveries:write",
    "GET /v1/webhooks/{webhook_id}/deliveries/summary": "deliveries:read",
    "GET /v1/dead-letters": "deliveries:read",
    "POST /v1/dead-letters/retry": "deliveries:write",
    "POST /v1/dead-letters/discard": "deliveries:write",
    "GET /v1/jobs/{job_id}": "deliveries:read",
    "POST /v1/jobs/{job_id}/cancel": "deliveries:write",
    "POST /v1/webhooks/{webhook_id}/replays": "deliveries:write",
    "POST /v1/events": "events:write",
    "POST /v1/learners/erase": "learners:erase",
    "GET /v1/learners/erasures/{erasure_id}": "learners:erase",
    "GET /v1/event-types": "webhooks:read",
    "GET /v1/source-addresses": "webhooks:read",
    "GET /v1/events/{event_id}": "deliveries:read",
    "GET /v1/account": ANY_SCOPE,
    "GET /v1/account/audit": "webhooks:read",
    "POST /v1/sessions": "events:write",
    "GET /v1/sessions/{session_id}": "deliveries:read",
    "POST /v1/sessions/{session_id}/close": "events:write",
    "GET /v1/usage": "webhooks:read",
    "GET /v1/usage/{month}": "webhooks:read",
    "GET /v1/notifications": "webhooks:read",
    "GET /v1/audit": OPERATOR,
    "POST /v1/accounts": OPERATOR,
    "GET /v1/accounts": OPERATOR,
    "GET /v1/unknown-accounts": OPERATOR,
    "GET /v1/accounts/{account_id}": OPERATOR,
    "PATCH /v1/accounts/{account_id}": OPERATOR,
    "POST /v1/accounts/{account_id}/keys": OPERATOR,
    "GET /v1/accounts/{account_id}/keys": OPERATOR,
    "DELETE /v1/accounts/{account_id}/keys/{key_id}": OPERATOR,
    "POST /v1/accounts/{account_id}/users": OPERATOR,
    "GET /v1/accounts/{account_id}/users": OPERATOR,
    "DELETE /v1/accounts/{account_id}/users/{user_id}": OPERATOR,
    "PATCH /v1/accounts/{account_id}/users/{user_id}": OPERATOR,
    "POST /v1/accounts/{account_id}/users/{user_id}/sign-in-links": OPERATOR,
    "POST /v1/accounts/{account_id}/portal-links": OPERATOR,
    "POST /v1/operators/sign-in-links": OPERATOR,
    "GET /v1/accounts/{account_id}/sessions": OPERATOR,
    "DELETE /v1/accounts/{account_id}/sessions/{session_id}": OPERATOR,
}
# A valid body for each route that needs one: permission is checked before the body.
BODIES: dict[str, Any] = {
    "POST /v1/webhooks": {"url": "https://crm.example.com/hooks"},
    "PATCH /v1/webhooks/{webhook_id}": {"description": "mine now"},
    "POST /v1/deliveries/retry": {"ids": ["some"]},
    "POST /v1/dead-letters/retry": {"ids": ["some"]},
    "POST /v1/dead-letters/discard": {"ids": ["some"]},
    "POST /v1/webhooks/{webhook_id}/replays": {"since": "2026-04-10T10:00:00Z"},
    "POST /v1/events": {"type": "package.updated"},
    "POST /v1/sessions": {"packageId": "pkg_1", "learnerId": "Ada"},
    "POST /v1/learners/erase": {"learnerId": "learner-42"},
    "POST /v1/accounts": {"name": "Mine"},
    "PATCH /v1/accounts/{account_id}": {"name": "Mine"},
    "POST /v1/accounts/{account_id}/keys": {"name": "mine", "scopes": ["webhooks:read"]},
    "POST /v1/accounts/{account_id}/users": {"email": "me@example.com"},
    "PATCH /v1/accounts/{account_id}/users/{user_id}": {"role": "owner"},
    "POST /v1/webhooks/{webhook_id}/ack": {"ids": ["d_1"]},
    "POST /v1/webhooks/{webhook_id}/nack": {"ids": ["d_1"]},
}


def routes(api: ApiFixture) -> list[str]:
    # The dashboard has a walk of its own.
    found = [route for route in walk(api.app.routes) if route.path not in OPEN and not is_page(route)]
    return [f"{method} {route.path}" for route in found for method in route.methods or ()]


def is_page(route: APIRoute) -> bool:
    return isinstance(route, PageRoute) or route.endpoint.__module__ == "api.shell.assets"


def walk(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Every route, also of included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from walk(route.original_router.routes)


async def call(client: ApiClient, route: str, **ids: str) -> tuple[int, str]:
    """The status, and the type of the problem."""
    method, path = route.split(" ")
    names = {
        "webhook_id": "wh_1",
        "delivery_id": "d_1",
        "event_id": "evt_1",
        "job_id": "job_1",
        "key_id": "key_1",
        "user_id": "usr_1",
        "session_id": "session_1",
        "month": "2026-04",
        "erasure_id": "ers_1",
    }
    response = await client.request(method, path.format(**{"account_id": "acc_1", **names, **ids}), BODIES.get(route))
    return response.status_code, "" if response.is_success else response.json()["type"]


async def test_every_route_has_a_scope_in_the_list(api: ApiFixture) -> None:
    assert sorted(routes(api)) == sorted(NEEDS)


async def test_every_route_refuses_a_missing_or_wrong_key(api: ApiFixture) -> None:
    for route in NEEDS:
        for client in (api.anonymous, ApiClient(api.client, "sk_unknown")):
            response = await call(client, route)
            assert response == (401, "/docs/problems#unauthorized"), route


async def test_every_route_refuses_a_key_with_all_other_scopes(api: ApiFixture) -> None:
    for route, needed in NEEDS.items():
        if needed == ANY_SCOPE:
            continue
        if needed == OPERATOR:
            client = api.acme
        else:
            others = [scope for scope in Scope if scope != needed]
            client = await api.with_scopes(api.acme.account_id, *others)
        assert await call(client, route) == (403, "/docs/problems#forbidden"), route


async def test_every_route_accepts_a_key_with_its_scope_only(api: ApiFixture) -> None:
    for route, needed in NEEDS.items():
        scope = needed or Scope.EVENTS_WRITE
        one = api.operator if needed == OPERATOR else await api.with_scopes(api.acme.account_id, scope)
        status, _ = await call(one, route)
        assert status not in (401, 403), route


async def test_an_operator_acts_only_within_a_named_account(api: ApiFixture) -> None:
    for route, needed in NEEDS.items():
        if needed not in (OPERATOR, Scope.EVENTS_WRITE, Scope.LEARNERS_ERASE):
            assert await call(api.operator, route) == (403, "/docs/problems#forbidden"), route
            status, _ = await call(api.operator_for(api.acme.account_id), route)
            assert status not in (401, 403), route


async def test_an_accounts_key_acts_for_no_other_account(api: ApiFixture) -> None:
    for route in NEEDS:
        for account_id in (api.globex.account_id, api.acme.account_id, ALL_ACCOUNTS):
            assert await call(replace(api.acme, acts_for=account_id), route) == (403, "/docs/problems#forbidden"), route


async def test_objects_of_another_account_are_not_found(api: ApiFixture) -> None:
    mine = await api.acme.webhook()
    waiting = delivery(account_id=api.acme.account_id, webhook_id=mine["id"])
    await api.record(waiting, attempt(account_id=waiting.account_id, webhook_id=mine["id"]))
    job = await api.acme.post(f"/v1/webhooks/{mine['id']}/retry-waiting")
    erasure = await api.acme.post("/v1/learners/erase", {"learnerId": "someone else"})
    ids = {"webhook_id": mine["id"], "delivery_id": waiting.id, "job_id": job["id"], "erasure_id": erasure["id"]}
    before = await api.acme.get(f"/v1/webhooks/{mine['id']}")
    about_these = [route for route in NEEDS if any(f"{{{name}}}" in route for name in ids)]
    for route in about_these:
        assert await call(api.globex, route, **ids) == (404, "/docs/problems#not-found"), route
    assert await api.acme.get(f"/v1/webhooks/{mine['id']}") == before
    for path in ("/v1/webhooks", "/v1/deliveries", "/v1/dead-letters", "/v1/notifications"):
        assert (await api.globex.get(path))["data"] == []
    count = {"since": "2026-04-10T10:00:00Z", "countOnly": True}
    assert (await api.globex.request("POST", f"/v1/webhooks/{mine['id']}/replays", count)).status_code == 404
    retried = await api.globex.post("/v1/dead-letters/retry", {"ids": [waiting.id]})
    assert retried == {"ids": [], "unknown": [waiting.id]}
    # Their owner finds them. A test event would wait: no `deliver` runs here.
    for route in about_these:
        if not route.endswith("/test"):
            assert (await call(api.acme, route, **ids))[0] < 500, route


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_revoked_or_expired_key_is_refused(api: ApiFixture, end: str) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    soon = {"expiresAt": "2026-04-10T13:00:00Z"} if end == "expired" else {}
    made = await api.operator.post(path, {"name": "short", "scopes": ["webhooks:read"], **soon})
    client = ApiClient(api.client, made["apiKey"])
    assert (await client.get("/v1/webhooks"))["data"] == []
    if end == "revoked":
        await api.operator.delete(f"{path}/{made['id']}")
    else:
        api.clock.advance(3600)
    assert (await client.request("GET", "/v1/webhooks")).status_code == 401
    [key] = [key for key in await api.operator.get(path) if key["id"] == made["id"]]
    assert made["apiKey"].startswith(key["prefix"])
    assert made["apiKey"] not in str(key)


async def test_the_last_use_of_a_key_is_shown(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    made = await api.operator.post(path, {"name": "short", "scopes": ["webhooks:read"]})
    await ApiClient(api.client, made["apiKey"]).get("/v1/webhooks")
    [key] = [key for key in await api.operator.get(path) if key["id"] == made["id"]]
    async with asyncio.timeout(10):
        # It is stored after the answer.
        while "lastUsedAt" not in key:
            [key] = [key for key in await api.operator.get(path) if key["id"] == made["id"]]
    assert key["lastUsedAt"] == "2026-04-10T12:00:00Z"


async def test_a_request_does_not_wait_for_its_use(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SqlApiKeys, "touch", never)
    made = await api.operator.post(
        f"/v1/accounts/{api.acme.account_id}/keys", {"name": "a", "scopes": ["webhooks:read"]}
    )
    async with asyncio.timeout(10):
        assert (await ApiClient(api.client, made["apiKey"]).get("/v1/webhooks"))["data"] == []
