"""Each class of requests has its places, an account a part of them, and accounts take turns."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dashboard.pages import SAME_ORIGIN, FakeBrowser
from starlette.routing import Route

from api import admission
from api.admission import class_of
from api.events.publish import EVENTS_PATH
from api.strict_route import StrictRoute
from builders import NOON
from fakes import quiet
from rest.api_fixture import PUBLIC_URL, ApiClient, ApiFixture, open_api
from rest.test_events import COMPLETED
from rest.test_permissions import walk
from streams.adapters.sql.engine.database import Database, database_url
from streams.core.errors import Unavailable
from streams.core.queues.request_class import RequestClass, request_limits
from streams.fair_places import FairPlaces
from streams.features.course_sessions.service import COMMIT_PATH
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.shared.accounts import SqlApiKeys
from streams.request_owner import RequestOwner, current_owner, work_for

LIMITS = request_limits(500)
IN_PATH = re.compile(r"\{[^}]*\}")
SINCE = f"{NOON:%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a place gives up soon."""
    monkeypatch.setattr(admission, "MAX_WAIT_SECONDS", 0.05)


def places_of(api: ApiFixture) -> FairPlaces:
    places: FairPlaces = api.app.state.places
    return places


async def take_all(api: ApiFixture, request_class: RequestClass, owner: str) -> None:
    """Take every place that an owner may have."""
    for _ in range(LIMITS[request_class].per_owner):
        await places_of(api).acquire(request_class, owner, 0)


async def signed_in(api: ApiFixture, client: ApiClient) -> FakeBrowser:
    browser = FakeBrowser(api)
    link = await api.operator.post(f"/v1/accounts/{client.account_id}/portal-links")
    assert (await browser.send(link["url"].removeprefix(PUBLIC_URL))).status == 200
    return browser


# -- classes ---------------------------------------------------------------------------------------------------------


def test_a_route_without_a_class_stops_the_start(api: ApiFixture) -> None:
    with pytest.raises(LookupError, match="/v1/unknown: this route needs a class: mark its function by `in_class`"):
        class_of(Route("/v1/unknown", lambda request: None, methods=["GET"]))


def test_a_routes_function_may_have_another_class_than_its_kind(api: ApiFixture) -> None:
    names = {f"{min(route.methods)} {route.path}": class_of(route) for route in walk(api.app.routes) if route.methods}
    assert names["GET /v1/webhooks"] is names["GET /webhooks"] is RequestClass.PEOPLE
    assert names["GET /v1/webhooks/{webhook_id}/stats"] is names["GET /events"] is RequestClass.SLOW
    assert (names["GET /docs"], names["GET /healthz"]) == (RequestClass.PUBLIC, RequestClass.PROBE)


# -- accounts --------------------------------------------------------------------------------------------------------


async def test_an_account_beyond_its_places_gets_429(api: ApiFixture) -> None:
    await take_all(api, RequestClass.PEOPLE, api.acme.account_id)
    response = await api.acme.request("GET", "/v1/webhooks")
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"
    assert response.json()["detail"] == "too many requests of this account at once: wait 1 second"
    assert (await api.globex.request("GET", "/v1/webhooks")).status_code == 200


async def test_a_full_class_leaves_the_others_alone(api: ApiFixture) -> None:
    for request_class in (RequestClass.PEOPLE, RequestClass.SLOW, RequestClass.WAITING):
        await take_all(api, request_class, api.acme.account_id)
    assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 202
    session = {"packageId": "pkg_1", "learnerId": "learner-1"}
    assert (await api.acme.request("POST", "/v1/sessions", session)).status_code == 201


async def test_a_request_waits_for_a_place_of_its_account(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAIT_SECONDS", 30)
    await take_all(api, RequestClass.PEOPLE, api.acme.account_id)
    waiting = asyncio.create_task(api.acme.request("GET", "/v1/webhooks"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    places_of(api).release(RequestClass.PEOPLE, api.acme.account_id)
    assert (await waiting).status_code == 200


async def test_keys_and_pages_of_an_account_share_its_places(api: ApiFixture) -> None:
    browser = await signed_in(api, api.acme)
    await take_all(api, RequestClass.PEOPLE, api.acme.account_id)
    page = await browser.open("/webhooks")
    assert page.status == 429
    assert page.response.headers["Retry-After"] == "1"
    assert "Too many requests of this account at once: wait 1 second." in page.text
    places_of(api).release(RequestClass.PEOPLE, api.acme.account_id)
    assert (await browser.open("/webhooks")).status == 200


async def test_an_operators_calls_for_an_account_count_apart(api: ApiFixture) -> None:
    await take_all(api, RequestClass.PUBLISH, api.acme.account_id)
    event = {**COMPLETED, "accountId": api.acme.account_id}
    assert (await api.operator.request("POST", "/v1/events", event)).status_code == 202
    await take_all(api, RequestClass.PUBLISH, f"operator:ada {api.acme.account_id}")
    assert (await api.operator.request("POST", "/v1/events", event)).status_code == 429
    other_event = {**COMPLETED, "accountId": api.globex.account_id}
    assert (await api.operator.request("POST", "/v1/events", other_event)).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "body", "request_class"),
    [
        ("GET", "/v1/accounts/{account}/keys", None, RequestClass.PEOPLE),
        ("POST", "/v1/sessions", {"packageId": "p", "learnerId": "l"}, RequestClass.COMMIT),
        ("POST", "/v1/learners/erase", {"learnerId": "l"}, RequestClass.SLOW),
    ],
)
async def test_an_operators_call_counts_for_the_account_it_names(
    api: ApiFixture, method: str, path: str, body: dict[str, str] | None, request_class: RequestClass
) -> None:
    async def call(client: ApiClient) -> int:
        named = {**body, "accountId": client.account_id} if body else None
        return (await api.operator.request(method, path.format(account=client.account_id), named)).status_code

    await take_all(api, request_class, f"operator:ada {api.acme.account_id}")
    assert await call(api.acme) == 429
    assert await call(api.globex) < 300


async def test_commits_count_for_the_account_of_their_url(api: ApiFixture) -> None:
    urls = {}
    for client in (api.acme, api.globex):
        opened = await client.post("/v1/sessions", {"packageId": "pkg_1", "learnerId": "learner-1"})
        urls[client.account_id] = opened["commitUrl"].removeprefix(PUBLIC_URL)
    await take_all(api, RequestClass.COMMIT, api.acme.account_id)
    statuses = [
        (await api.anonymous.request("POST", urls[client.account_id], {"cmi": {}})).status_code
        for client in (api.acme, api.globex)
    ]
    assert statuses == [429, 200]


@pytest.mark.parametrize("path", ["/runtime/commit/{token}", "/v1/sessions", "/sign-in"])
async def test_a_client_that_sends_its_body_slowly_has_no_place(api: ApiFixture, path: str) -> None:
    opened = await api.acme.post("/v1/sessions", {"packageId": "pkg_1", "learnerId": "learner-1"})
    address = path.format(token=opened["commitUrl"].rpartition("/")[2])
    sent = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"{"
        sent.set()
        await asyncio.Event().wait()

    headers = {"Authorization": f"Bearer {api.acme.key}", "Content-Type": "application/json", **SAME_ORIGIN}
    slow = asyncio.create_task(api.client.post(address, content=slow_body(), headers=headers))
    await sent.wait()
    await quiet()
    assert not any(places_of(api).in_use().values())
    slow.cancel()
    await asyncio.wait([slow])


async def test_a_refused_request_is_counted(api: ApiFixture) -> None:
    await take_all(api, RequestClass.SLOW, api.acme.account_id)
    await api.acme.request("GET", f"/v1/events/evt_1?since={SINCE}")
    assert api.telemetry.counts["api_requests_without_place_total"] == 1


# -- without a key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_class", LIMITS)
async def test_a_full_network_is_refused_without_the_database(
    api: ApiFixture, statements: list[str], request_class: RequestClass
) -> None:
    browser = await signed_in(api, api.acme)
    await take_all(api, request_class, "network 127.0.0.1")
    if request_class in (RequestClass.PEOPLE, RequestClass.SLOW, RequestClass.WAITING):
        [cookie] = browser.client.cookies.jar
        await take_all(api, request_class, f"network 127.0.0.1 {hash(cookie.value)}")
    statements.clear()
    for route in walk(api.app.routes):
        # Without a key these are refused by themselves.
        methods = (route.methods or set()) - {"HEAD"}
        needs_key = isinstance(route, StrictRoute) or ("POST" in methods and is_before_routes(route.path))
        for method in methods if class_of(route) is request_class and not needs_key else ():
            response = await browser.client.request(method, IN_PATH.sub("x", route.path), headers=SAME_ORIGIN)
            assert response.status_code == 429, f"{method} {route.path}"
            assert response.headers["Retry-After"] == "1"
            assert len(response.content) < 1000
    assert statements == []


async def test_a_flood_of_pages_does_not_refuse_another_customer_there(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooding, other = await signed_in(api, api.acme), await signed_in(api, api.globex)
    [cookie] = flooding.client.cookies.jar
    sessions, is_over = api.app.state.services.sessions, asyncio.Event()
    find = sessions.find

    async def find_slowly(token: str) -> Any:
        await (is_over.wait() if token == cookie.value else asyncio.sleep(0))
        return await find(token)

    monkeypatch.setattr(sessions, "find", find_slowly)
    flood = [asyncio.create_task(flooding.open("/deliveries")) for _ in range(100)]
    refused, _ = await asyncio.wait(flood, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert {(await one).status for one in refused} == {429}
    assert (await other.open("/deliveries")).status == 200
    is_over.set()
    await asyncio.gather(*flood)


async def test_without_a_key_a_route_counts_for_the_network(api: ApiFixture, statements: list[str]) -> None:
    counted: list[tuple[RequestClass, str]] = []
    acquire = api.app.state.places.acquire

    async def noted(request_class: RequestClass, owner: str, seconds: float) -> None:
        counted.append((request_class, owner))
        await acquire(request_class, owner, seconds)

    api.app.state.places.acquire = noted
    for route in walk(api.app.routes):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            counted.clear()
            statements.clear()
            response = await api.anonymous.request(method, IN_PATH.sub("x", route.path), headers=SAME_ORIGIN)
            if isinstance(route, StrictRoute) or (is_before_routes(route.path) and method == "POST"):
                assert (response.status_code in (401, 404), statements, counted) == (True, [], []), route.path
            else:
                assert {*counted} == {(class_of(route), "network 127.0.0.1")}, route.path


def is_before_routes(path: str) -> bool:
    """Whether a middleware responds to a POST to this path."""
    return path == EVENTS_PATH or path.startswith(COMMIT_PATH)


async def test_what_finds_a_key_or_a_commit_url_works_for_the_network(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[RequestOwner | None] = []

    async def noted(*_: object) -> None:
        owners.append(current_owner())

    monkeypatch.setattr(SqlApiKeys, "find", noted)
    monkeypatch.setattr(SqlCourseSessions, "account_of", noted)
    await api.acme.request("GET", "/v1/webhooks")
    await api.acme.request("POST", "/v1/events", COMPLETED)
    await api.anonymous.request("POST", f"/runtime/commit/{'x' * 43}", {"cmi": {}})
    assert [owner and (owner.request_class, owner.account) for owner in owners] == [
        (request_class, "network 127.0.0.1")
        for request_class in (RequestClass.PEOPLE, RequestClass.PUBLISH, RequestClass.COMMIT)
    ]


# -- pages -----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def slow_api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", requests_a_minute=20) as api:
        yield api


@pytest.mark.parametrize("path", ["/nonsense", "/webhooks/wh_unknown"])
async def test_the_page_of_an_error_has_a_place_of_its_account(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    owners = set[RequestOwner | None]()
    list_paused = api.app.state.services.webhooks.list_paused

    async def noted(*arguments: object, **options: object) -> object:
        owners.add(current_owner())
        return await list_paused(*arguments, **options)

    monkeypatch.setattr(api.app.state.services.webhooks, "list_paused", noted)
    browser = await signed_in(api, api.acme)
    owners.clear()
    page = await browser.open(path, Accept="text/html")
    assert page.status == 404
    assert {owner and owner.account for owner in owners} == {api.acme.account_id}


async def test_an_unknown_address_without_a_place_has_a_page(api: ApiFixture) -> None:
    browser = await signed_in(api, api.acme)
    await take_all(api, RequestClass.PEOPLE, api.acme.account_id)
    page = await browser.open("/nonsense", Accept="text/html")
    assert page.status == 404
    assert "There is no page at this address." in page.text


async def test_pages_have_a_rate_beside_that_of_keys(slow_api: ApiFixture) -> None:
    api = slow_api
    browser = await signed_in(api, api.acme)
    pages = [await browser.open("/webhooks") for _ in range(30)]
    assert {page.status for page in pages} == {200, 429}
    assert "Too many pages of this account" in pages[-1].text
    assert int(pages[-1].response.headers["Retry-After"]) >= 1
    assert (await api.acme.request("GET", "/v1/webhooks")).status_code == 200
    other = await signed_in(api, api.globex)
    assert (await other.open("/webhooks")).status == 200


# -- the database ----------------------------------------------------------------------------------------------------


@contextmanager
def working_for(request_class: RequestClass, owner: str) -> Iterator[None]:
    with work_for(RequestOwner(request_class, owner)):
        yield


async def test_a_request_of_people_waits_while_a_learner_does_not(tmp_path: Path) -> None:
    database = Database(database_url(f"sqlite:///{tmp_path}/db.sqlite"))
    async with AsyncExitStack() as held:
        with working_for(RequestClass.PEOPLE, "acme"):
            for _ in range(3):
                await held.enter_async_context(database.read_transaction())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), database.read_transaction():
                    pass
        with working_for(RequestClass.COMMIT, "globex"):
            async with database.read_transaction():
                pass
        async with database.read_transaction():  # what belongs to no request
            pass
    await database.close()


async def test_the_turns_of_a_request_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.adapters.sql.engine.database.TURN_SECONDS", 5.0)
    database = Database(database_url(f"sqlite:///{tmp_path}/db.sqlite"))
    began_at = asyncio.get_running_loop().time() - 4.95
    with work_for(RequestOwner(RequestClass.PEOPLE, "acme", began_at)):
        async with database.transaction():
            with pytest.raises(Unavailable, match="no connection for this request"):
                async with asyncio.timeout(2), database.transaction():
                    pass
    await database.close()
