"""No limit of the API lets an untrusted client choose whom it stops: after each act a person signs in, in every way."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio
from dashboard.pages import FakeBrowser, Page
from dashboard.test_oidc_pages import SETTINGS, VERIFIED, sign_in
from dashboard.test_sign_in_pages import ADA, add_ada, mailed

from fakes import FakeIdentityProvider
from rest.api_fixture import PUBLIC_URL, ApiClient, ApiFixture, open_api
from streams.core.accounts.session import MAX_CODE_GUESSES, MAX_USABLE_SIGN_INS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REQUESTS_A_MINUTE = 50
SOME = 60


class UntrustedClient(NamedTuple):
    """A browser on another network, and a customer's key of another account."""

    api: ApiFixture
    browser: FakeBrowser
    key: ApiClient


async def send_requests(client: UntrustedClient) -> None:
    responses = [await client.key.request("GET", "/v1/webhooks") for _ in range(SOME)]
    assert responses[-1].status_code == 429
    for number in range(SOME):
        await ApiClient(client.browser.client, f"sk_{number}").request("GET", "/v1/webhooks")


async def attempt_to_sign_in(client: UntrustedClient) -> None:
    for number in range(SOME):
        page = await client.browser.send("/sign-in", email=f"person-{number}@acme.example")
    assert "Too many attempts" in page.text


async def ask_for_mails(client: UntrustedClient) -> None:
    for _ in range(MAX_USABLE_SIGN_INS + 2):
        await client.browser.send("/sign-in", email=ADA)


async def send_at_once(client: UntrustedClient) -> None:
    await asyncio.gather(
        *(client.key.request("GET", "/v1/webhooks") for _ in range(SOME // 2)),
        *(client.browser.open("/sign-in") for _ in range(SOME)),
        *(client.browser.open(f"/sign-in/{'x' * 43}") for _ in range(SOME)),
    )


async def guess_codes(client: UntrustedClient) -> None:
    await client.browser.send("/sign-in", email=ADA)
    for number in range(MAX_CODE_GUESSES + 2):
        assert (await client.browser.send("/sign-in/code", code=f"9999 999{number}")).status == 403


async def send_commits(client: UntrustedClient) -> None:
    for number in range(SOME):
        await client.browser.client.post(f"/runtime/commit/{'x' * 43}", json={"cmi": {}, "number": number})


# By the name of the row in docs/access.md; the file of the limiter, and what an untrusted client does to it. What has
# no act here has a test of its own: connections in tests/adversary, shares in tests/stages/test_path.py, tests in
# tests/stages/test_flow.py, terminals in tests/dashboard/test_terminal_pages.py.
LIMITERS: dict[str, tuple[str, Callable[[UntrustedClient], Awaitable[None]] | None]] = {
    "requests": ("api/app.py", send_requests),
    "attempts to sign in": ("api/app.py", attempt_to_sign_in),
    "events": ("api/events/limits.py", None),
    "open mails": ("streams/features/sign_in/service.py", ask_for_mails),
    "guesses of a code": ("streams/features/sign_in/service.py", guess_codes),
    "commits": ("api/app.py", send_commits),
    "requests at once": ("api/app.py", send_at_once),
    "test events": ("streams/features/webhooks/outcome_watch.py", None),
    "connected terminals": ("streams/features/shared/accounts.py", None),
    "connections": ("streams/runtime/api_stage.py", None),
    "shares of deliveries": ("streams/stages/fan_out.py", None),
}
_IS_LIMITER = re.compile(
    r"\bRateLimits\(|\(RateLimits\)|Semaphore\(|\bConnectionLimits\(|\bFairPlaces\(|\bMAX_USABLE_SIGN_INS\b|\bMAX_WAITING_TESTS"
    r"|\bMAX_TERMINALS"
)


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    provider = FakeIdentityProvider(VERIFIED)
    url = f"sqlite:///{tmp_path}/db.sqlite"
    async with open_api(url, requests_a_minute=REQUESTS_A_MINUTE, settings=SETTINGS, provider=provider) as api:
        await add_ada(api)
        yield api


async def by_mail(api: ApiFixture) -> Page:
    """By the code; by the link of the newest mail where enough were sent already."""
    browser, before = FakeBrowser(api), await mailed(api)
    await browser.send("/sign-in", email=ADA)
    newest = await mailed(api)
    if newest == before:
        return await browser.send(f"/sign-in/{newest['token']}")
    return await browser.send("/sign-in/code", code=newest["code"])


async def by_mailed_link(api: ApiFixture) -> Page:
    await FakeBrowser(api).send("/sign-in", email=ADA)
    return await FakeBrowser(api).send(f"/sign-in/{(await mailed(api))['token']}")


async def by_portal_link(api: ApiFixture) -> Page:
    link = await api.operator.post(f"/v1/accounts/{api.acme.account_id}/portal-links")
    return await FakeBrowser(api).send(link["url"].removeprefix(PUBLIC_URL))


async def by_provider(api: ApiFixture) -> Page:
    return await sign_in(FakeBrowser(api))


@pytest.mark.parametrize("name", [name for name, (_, act) in LIMITERS.items() if act])
async def test_a_person_signs_in_whatever_others_do(api: ApiFixture, name: str) -> None:
    act = LIMITERS[name][1]
    assert act
    browser = FakeBrowser(api)
    transport = httpx.ASGITransport(api.app, client=("203.0.113.9", 1))
    browser.client = httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, follow_redirects=True)
    await act(UntrustedClient(api, browser, ApiClient(browser.client, api.globex.key)))
    for way in (by_mail, by_mailed_link, by_portal_link, by_provider):
        page = await way(api)
        assert (page.status, page.path) == (200, "/"), way.__name__
    assert (await api.acme.request("GET", "/v1/webhooks")).status_code == 200


def test_every_limiter_is_in_the_table() -> None:
    folders = ("api", "streams/features", "streams/stages", "streams/runtime")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    limiting = {str(path.relative_to(ROOT)) for path in files if _IS_LIMITER.search(path.read_text())}
    # They limit their own queries or requests at once, and refuse no request.
    limiting -= {"streams/stages/release_held.py", "streams/stages/retention.py"}
    assert limiting == {file for file, _ in LIMITERS.values()}


def test_the_document_has_every_limiter() -> None:
    page = (ROOT / "docs" / "access.md").read_text()
    table = page.partition("\n## Who is counted\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)[1:] == list(LIMITERS)
