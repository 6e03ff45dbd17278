"""Floods of requests by one customer, beside another one who publishes, commits, reads and opens a page."""

import asyncio
import itertools
import multiprocessing
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import aiohttp

# More than the 500 connections of a process.
FLOOD_REQUESTS = 520
# A customer's four acts together are about fifty requests a second.
ACT_PAUSE_SECONDS = 0.05
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Customer:
    """What a customer has: an API key, a webhook, a dashboard session, and commit URLs of open sessions."""

    base_url: str
    account_id: str
    key: str
    webhook_id: str
    cookie: str
    pull_webhook_id: str = ""
    commit_urls: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def page_headers(self) -> dict[str, str]:
        return {"Cookie": self.cookie, **SAME_ORIGIN}


@dataclass
class Answers:
    """The statuses of responses, and the milliseconds of each; a connection without a response has status 0."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)

    async def send(self, client: aiohttp.ClientSession, method: str, url: str, **options: Any) -> None:
        began, status = time.monotonic(), 0
        try:
            async with client.request(method, url, allow_redirects=False, **options) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            pass
        self.statuses[status] += 1
        self.milliseconds.append((time.monotonic() - began) * 1000)


def new_event(account_id: str, event_id: str) -> dict[str, Any]:
    data = {"sessionId": f"sess_{event_id}", "packageId": "pkg_1", "learnerId": "learner-1"}
    now = datetime.now(UTC).isoformat()
    return {"id": event_id, "type": "session.launched", "createdAt": now, "accountId": account_id, "data": data}


def client_of(customer: Customer, connections: int = 0) -> aiohttp.ClientSession:
    """A client without a limit of connections, unless one is given."""
    return aiohttp.ClientSession(
        customer.base_url,
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(60),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def make_customer(base_url: str, operator_key: str, name: str, endpoint_url: str, sessions: int = 3) -> Customer:
    """Open an account with all that a flood or its bystander needs."""
    operator = {"Authorization": f"Bearer {operator_key}"}
    async with aiohttp.ClientSession(base_url, cookie_jar=aiohttp.DummyCookieJar()) as client:
        account = await _json(client.post("/v1/accounts", json={"name": name, "emails": []}, headers=operator))
        headers = {"Authorization": f"Bearer {account['apiKey']}"}
        webhook = await _json(client.post("/v1/webhooks", json={"url": endpoint_url}, headers=headers))
        pulled = await _json(client.post("/v1/webhooks", json={"delivery": "pull"}, headers=headers))
        link = await _json(client.post(f"/v1/accounts/{account['id']}/portal-links", headers=operator))
        token = link["url"].rpartition("/")[2]
        async with client.post(f"/sign-in/{token}", headers=SAME_ORIGIN, allow_redirects=False) as response:
            cookies = SimpleCookie(response.headers["Set-Cookie"])
        customer = Customer(base_url, account["id"], account["apiKey"], webhook["id"], "", pulled["id"])
        customer.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items() if morsel.value)
        for number in range(sessions):
            session = {"packageId": "pkg_1", "learnerId": f"learner-{number}"}
            opened = await _json(client.post("/v1/sessions", json=session, headers=headers))
            customer.commit_urls.append("/runtime" + opened["commitUrl"].partition("/runtime")[2])
    return customer


async def _json(request: Any) -> Any:
    async with request as response:
        assert response.status < 300, (response.status, await response.text())
        return await response.json()


# -- the bystander ---------------------------------------------------------------------------------------------------


async def act(customer: Customer, seconds: float, answers: dict[str, Answers]) -> None:
    """Publish, commit, read and open a page, each again and again, for some seconds."""
    acts: dict[str, Callable[[aiohttp.ClientSession, int], Awaitable[None]]] = {
        "publish": lambda client, number: answers["publish"].send(
            client,
            "POST",
            "/v1/events",
            json=new_event(customer.account_id, f"bystander:{time.monotonic_ns()}"),
            headers=customer.headers,
        ),
        "commit": lambda client, number: answers["commit"].send(
            client,
            "POST",
            customer.commit_urls[number % len(customer.commit_urls)],
            json={"cmi": {"core": {"lesson_status": "incomplete", "lesson_location": str(number)}}},
        ),
        "read": lambda client, _: answers["read"].send(
            client, "GET", f"/v1/webhooks/{customer.webhook_id}", headers=customer.headers
        ),
        "page": lambda client, _: answers["page"].send(client, "GET", "/", headers=customer.page_headers),
    }
    end = time.monotonic() + seconds

    async def repeat(act_once: Callable[[aiohttp.ClientSession, int], Awaitable[None]]) -> None:
        async with client_of(customer) as client:
            for number in itertools.count():
                await act_once(client, number)
                await asyncio.sleep(ACT_PAUSE_SECONDS)
                if time.monotonic() > end:
                    return

    await asyncio.gather(*map(repeat, acts.values()))


def new_answers() -> dict[str, Answers]:
    return {name: Answers() for name in ("publish", "commit", "read", "page")}


# -- floods ----------------------------------------------------------------------------------------------------------

Requests = Iterator[tuple[str, str, dict[str, Any]]]


def searches(customer: Customer) -> Requests:
    since = (datetime.now(UTC) - timedelta(minutes=30)).isoformat()
    for number in range(FLOOD_REQUESTS):
        params = {"since": since}
        yield "GET", f"/v1/events/unknown:{number}", {"params": params, "headers": customer.headers}


def erasures(customer: Customer) -> Requests:
    for number in range(FLOOD_REQUESTS):
        body = {"learnerId": f"erased-{number}"}
        yield "POST", "/v1/learners/erase", {"json": body, "headers": customer.headers}


def changes(customer: Customer) -> Requests:
    for number in range(FLOOD_REQUESTS):
        body = {"description": f"change {number}"}
        yield "PATCH", f"/v1/webhooks/{customer.webhook_id}", {"json": body, "headers": customer.headers}


def registrations(customer: Customer) -> Requests:
    for number in range(FLOOD_REQUESTS):
        body = {"url": f"http://127.0.0.1:9/{number}"}
        yield "POST", "/v1/webhooks", {"json": body, "headers": customer.headers}


def sessions(customer: Customer, count: int = FLOOD_REQUESTS) -> Requests:
    for number in range(count):
        body = {"packageId": "pkg_1", "learnerId": f"learner-of-a-class-{number}"}
        yield "POST", "/v1/sessions", {"json": body, "headers": customer.headers}


def a_class(customer: Customer) -> Requests:
    return sessions(customer, 300)


def commits(customer: Customer) -> Requests:
    for number in range(FLOOD_REQUESTS):
        url = customer.commit_urls[number % len(customer.commit_urls)]
        cmi = {"core": {"lesson_status": "incomplete", "lesson_location": str(number)}}
        yield "POST", url, {"json": {"cmi": cmi}}


def events(customer: Customer) -> Requests:
    for number in range(FLOOD_REQUESTS):
        event = new_event(customer.account_id, f"flood:{time.monotonic_ns()}:{number}")
        yield "POST", "/v1/events", {"json": event, "headers": customer.headers}


def backfills(customer: Customer) -> Requests:
    path = f"/webhooks/{customer.webhook_id}/replay"
    since = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(FLOOD_REQUESTS):
        params = {"since": f"{since:%Y-%m-%dT%H:%M}", "backfill": "1", "zone": "UTC"}
        yield "GET", path, {"params": params, "headers": customer.page_headers}


def pages(customer: Customer) -> Requests:
    for _ in range(FLOOD_REQUESTS):
        yield "GET", "/deliveries", {"headers": customer.page_headers}


def tests(customer: Customer) -> Requests:
    for _ in range(FLOOD_REQUESTS):
        yield "POST", f"/v1/webhooks/{customer.webhook_id}/test", {"headers": customer.headers}


def readers(customer: Customer) -> Requests:
    for _ in range(FLOOD_REQUESTS):
        body = {"waitSeconds": 1}
        yield "POST", f"/v1/webhooks/{customer.pull_webhook_id}/pull", {"json": body, "headers": customer.headers}


def unknown_clients(customer: Customer) -> Requests:
    """Keys, sessions and commit URLs that do not exist."""
    for number in range(FLOOD_REQUESTS // 4):
        yield "GET", "/v1/webhooks", {"headers": {"Authorization": f"Bearer sk_{number}"}}
        yield "GET", "/", {"headers": {"Cookie": f"session={number:043}"}}
        yield "POST", f"/runtime/commit/{number:043}", {"json": {"cmi": {}}}
        yield "POST", f"/sign-in/{number:043}", {"headers": SAME_ORIGIN}


def files(customer: Customer) -> Requests:
    """Large files for everybody, as a client gets them that accepts no compression."""
    for _ in range(FLOOD_REQUESTS // 2):
        yield "GET", "/openapi.json", {"headers": {"Accept-Encoding": "identity"}}
        yield "GET", "/docs/api-reference.html", {"headers": {"Accept-Encoding": "identity"}}


FLOODS: dict[str, Callable[[Customer], Requests]] = {
    flood.__name__: flood
    for flood in (
        searches,
        erasures,
        changes,
        registrations,
        sessions,
        a_class,
        commits,
        events,
        backfills,
        pages,
        tests,
        readers,
        unknown_clients,
        files,
    )
}


async def send_flood(name: str, customer: Customer, seconds: float) -> Answers:
    """Send all requests of a flood at once, and again until some seconds have passed."""
    answers, end = Answers(), time.monotonic() + seconds
    async with client_of(customer) as client:
        while True:
            await asyncio.gather(
                *(answers.send(client, method, url, **options) for method, url, options in FLOODS[name](customer))
            )
            if time.monotonic() > end:
                return answers


def _send_flood(name: str, customer: Customer, seconds: float) -> Answers:
    return asyncio.run(send_flood(name, customer, seconds))


@dataclass
class Outcome:
    """The answers that the bystander got before and during a flood, and those of the flood itself."""

    before: dict[str, Answers]
    during: dict[str, Answers]
    flood: Answers


@contextmanager
def flood_process() -> Iterator[ProcessPoolExecutor]:
    """A process that sends floods; it is ready."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(time.monotonic).result()
        yield process


async def play(
    name: str,
    attacker: Customer,
    bystander: Customer,
    process: ProcessPoolExecutor,
    *,
    seconds_before: float = 0.0,
    flood_seconds: float = 0.0,
) -> Outcome:
    """Send a flood from its process while the bystander acts, until the flood has its answers."""
    before, during = new_answers(), new_answers()
    await act(bystander, seconds_before, before)
    loop = asyncio.get_running_loop()
    flood = loop.run_in_executor(process, _send_flood, name, attacker, flood_seconds)
    while not flood.done():
        await act(bystander, 0.2, during)
    return Outcome(before, during, await flood)
