"""`POST /v1/events` is answered without FastAPI's router, by the same rules."""

import json
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from api.admission import in_class
from api.auth import MayPublish
from api.events.limits import EventLimits
from api.events.publish import events_of, restore_field_names
from api.problems import TooManyRequests
from api.strict_route import StrictRoute
from builders import EXAMPLE
from rest.api_fixture import ApiFixture, errors_of
from rest.test_events import COMPLETED, published
from streams.adapters.sql.tables.accounts import api_keys
from streams.core.accounts.access import Caller
from streams.core.errors import Invalid
from streams.core.queues.request_class import RequestClass
from streams.features.accounts.access import KEY_CACHE_SECONDS

JSON = {"Content-Type": "application/json"}
TEXTS = st.sampled_from(
    ["", "x", "evt_1", "no.dots", "session.completed", "session.scored", "2026-04-10T14:32:00Z", "\x00"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
NAMES = st.sampled_from(["id", "type", "createdAt", "accountId", "data", "traceParent", "events", "other"])
DATA = st.dictionaries(st.sampled_from([*EXAMPLE, "other"]), VALUES, max_size=4).map(lambda some: {**EXAMPLE, **some})
# Events of which some fields are anything, alone and in lists, and any other value.
EVENTS = st.dictionaries(NAMES, VALUES | DATA, max_size=3).map(lambda some: {**COMPLETED, **some})
BODIES = st.one_of(EVENTS, st.lists(EVENTS | VALUES, max_size=3).map(lambda some: {"events": some}), VALUES).map(
    lambda body: json.dumps(body).encode()
)
BROKEN = [
    b"", b"{", b"[1,]", b'{"a": 1}x', b"\xff", b'"\\ud800"', b"1" * 5000, b"[" * 100_000, b"NaN", b'{"id": 1e999}',
    json.dumps(COMPLETED).encode("utf-16"), json.dumps({**COMPLETED, "id": 2**70}).encode(),
    json.dumps({**COMPLETED, "data": {**EXAMPLE, "learnerId": "\ud800"}}).encode(),
]  # fmt: skip


@pytest.fixture
def with_router(api: ApiFixture) -> ApiFixture:
    """The same rules behind FastAPI's router, at another address."""
    router = APIRouter(route_class=StrictRoute)

    @router.post("/v1/routed-events", status_code=202)
    @in_class(RequestClass.PUBLISH)
    async def publish(body: Annotated[dict[str, Any], Body()], caller: MayPublish) -> dict[str, Any]:
        try:
            events = await api.app.state.services.ingest.publish(events_of(body), caller.account_id)
        except Invalid as error:
            raise restore_field_names(error, body) from None
        return {"ids": [event.id for event in events], "events": [{"id": event.id} for event in events]}

    api.app.include_router(router)
    return api


async def both(api: ApiFixture, body: bytes) -> list[httpx.Response]:
    paths = "/v1/routed-events", "/v1/events"
    return [await api.acme.request("POST", path, content=body, headers=JSON) for path in paths]


def verdict(response: httpx.Response) -> tuple[object, ...]:
    """The status, the kind of problem, and the wrong fields with their messages."""
    found = response.json()
    if response.status_code == 202:
        return 202, len(found["ids"])
    errors = {error["field"]: error["message"] for error in found.get("errors", ())}
    # Pydantic says the same of the body itself in other words.
    return response.status_code, found["type"], {**errors, **dict.fromkeys(errors.keys() & {"body"})}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
async def test_any_body_is_judged_as_by_the_router(with_router: ApiFixture, body: bytes) -> None:
    routed, direct = await both(with_router, body)
    assert verdict(direct) == verdict(routed)


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
async def test_a_broken_body_is_judged_as_by_the_router(with_router: ApiFixture, body: bytes) -> None:
    routed, direct = await both(with_router, body)
    assert verdict(direct) == verdict(routed)


async def test_a_body_without_its_content_type_is_refused(api: ApiFixture) -> None:
    body = json.dumps(COMPLETED).encode()
    for content_type in ("", "text/plain", "application/xml"):
        headers = {"Content-Type": content_type} if content_type else {}
        response = await api.acme.request("POST", "/v1/events", content=body, headers=headers)
        assert (response.status_code, "Content-Type: application/json" in response.json()["title"]) == (415, True)
    for content_type in ("application/json; charset=utf-8", "application/vnd.acme+json", "APPLICATION/JSON"):
        headers = {"Content-Type": content_type}
        assert (await api.acme.request("POST", "/v1/events", content=body, headers=headers)).status_code == 202


async def test_an_unknown_parameter_is_refused(api: ApiFixture) -> None:
    response = await api.acme.request("POST", "/v1/events?counts=true", COMPLETED)
    assert errors_of(response) == {"counts": "is not a parameter here; the parameters are count"}
    response = await api.acme.request("POST", "/v1/events?count=maybe", COMPLETED)
    assert errors_of(response) == {"count": "must be true or false"}
    assert published(api) == []


@pytest.mark.parametrize("query", ["=", "count", "count=", "count=true&count=false", "count=true&count=true"])
async def test_a_strange_query_is_refused(api: ApiFixture, query: str) -> None:
    response = await api.acme.request("POST", f"/v1/events?{query}", COMPLETED)
    assert response.status_code == 422, response.text
    assert published(api) == []


async def test_the_query_is_no_part_of_an_idempotency_key(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "order-7"}
    paths = ("/v1/events", "/v1/events?count=true", "/v1/events?count=false")
    responses = [await api.acme.request("POST", path, COMPLETED, headers=headers) for path in paths]
    assert len({response.json()["ids"][0] for response in responses}) == 1


async def test_a_refused_batch_takes_no_tokens_of_others(api: ApiFixture) -> None:
    limits = EventLimits(1)
    caller = Caller("operator:ada", frozenset(), None)
    limits.take(caller, ["acme"] * 10)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            limits.take(caller, [*["globex"] * 10, "acme"])
    limits.take(caller, ["globex"])


async def test_a_key_without_the_scope_may_not_publish(api: ApiFixture) -> None:
    reader = await api.with_scopes(api.acme.account_id, "webhooks:read")
    assert (await reader.request("POST", "/v1/events", COMPLETED)).status_code == 403
    assert (await reader.request("POST", "/v1/events?x=1", content=b"{")).status_code == 403


async def test_further_events_need_no_query(api: ApiFixture, statements: list[str]) -> None:
    named = {**COMPLETED, "accountId": api.acme.account_id}
    await api.acme.post("/v1/events", COMPLETED)
    await api.operator.post("/v1/events", named)
    statements.clear()
    headers = {"Idempotency-Key": "order-7"}
    await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers)
    await api.operator.request("POST", "/v1/events", named, headers=headers)
    assert statements == []


async def test_an_account_publishes_as_soon_as_it_is_made(api: ApiFixture) -> None:
    unknown = {**COMPLETED, "accountId": "acc_new"}
    assert (await api.operator.request("POST", "/v1/events", unknown)).status_code == 422
    made = await api.operator.post("/v1/accounts", {"name": "New"})
    new = {**COMPLETED, "accountId": made["id"]}
    assert (await api.operator.request("POST", "/v1/events", new)).status_code == 202


async def test_a_key_revoked_elsewhere_opens_for_a_second_more(api: ApiFixture) -> None:
    await api.acme.post("/v1/events", COMPLETED)
    [key] = await api.operator.get(f"/v1/accounts/{api.acme.account_id}/keys")
    async with api.database.transaction() as connection:
        await connection.execute(update(api_keys).values(revoked_at=api.clock.now()).where(api_keys.c.id == key["id"]))
    assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 202
    api.clock.advance(KEY_CACHE_SECONDS)
    assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 401


async def test_a_repeated_request_has_the_same_ids(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first, again = [await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers) for _ in range(2)]
    assert first.json() == again.json()
    other = await api.acme.request(
        "POST", "/v1/events", {**COMPLETED, "createdAt": "2026-04-10T15:32:00Z"}, headers=headers
    )
    assert other.json()["ids"] != first.json()["ids"]
    wrong = await api.acme.request("POST", "/v1/events", COMPLETED, headers={"Idempotency-Key": "no spaces"})
    assert "printable ASCII" in errors_of(wrong)["Idempotency-Key"]
