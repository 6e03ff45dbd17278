"""An untrusted client that sends requests keeps nobody from signing in."""

from typing import Any

import httpx
import pytest
from dashboard.pages import FakeBrowser, Page
from dashboard.test_sign_in_pages import ADA, add_ada, mailed

from api.sign_in.limits import MAX_ATTEMPTS_PER_MINUTE
from rest.api_fixture import OPERATOR_KEY, PUBLIC_URL, ApiFixture

pytestmark = pytest.mark.slow


async def exhaust(api: ApiFixture, **headers: str) -> None:
    """Use up the attempts of this test's network, as an untrusted client behind the same proxy does."""
    untrusted = FakeBrowser(api)
    untrusted.client.headers.update(headers)
    for _ in range(10 * MAX_ATTEMPTS_PER_MINUTE):
        if "Too many attempts" in (await untrusted.send("/sign-in", email="nobody@acme.example")).text:
            break
    await untrusted.close()


def path_of(link: dict[str, Any]) -> str:
    url: str = link["url"]
    return url.removeprefix(PUBLIC_URL)


async def portal_link(api: ApiFixture) -> str:
    return path_of(await api.operator.post(f"/v1/accounts/{api.acme.account_id}/portal-links"))


async def user_link(api: ApiFixture) -> str:
    users = f"/v1/accounts/{api.acme.account_id}/users"
    ada = await api.operator.post(users, {"email": ADA})
    return path_of(await api.operator.post(f"{users}/{ada['id']}/sign-in-links"))


async def mailed_link(api: ApiFixture) -> str:
    await FakeBrowser(api).send("/sign-in", email=ADA)
    return f"/sign-in/{(await mailed(api))['token']}"


@pytest.mark.parametrize("link_of", [portal_link, user_link, mailed_link])
async def test_a_valid_link_needs_no_attempt(api: ApiFixture, link_of: Any) -> None:
    await add_ada(api)
    link = await link_of(api)
    await exhaust(api)
    browser = FakeBrowser(api)
    assert (await browser.send(link)).path == "/"
    assert (await browser.open("/webhooks")).status == 200


async def test_a_right_code_needs_no_attempt(api: ApiFixture) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    await browser.send("/sign-in", email=ADA)
    await exhaust(api)
    assert (await browser.send("/sign-in/code", code=(await mailed(api))["code"])).path == "/"


async def test_an_operator_key_needs_no_attempt(api: ApiFixture) -> None:
    await exhaust(api)
    assert (await FakeBrowser(api).send("/operator/sign-in", key=OPERATOR_KEY)).path == "/operator"


@pytest.mark.parametrize(
    ("path", "field"), [("/sign-in/code", "code"), (f"/sign-in/{'x' * 43}", "token"), ("/operator/sign-in", "key")]
)
async def test_wrong_guesses_of_a_network_are_limited(api: ApiFixture, path: str, field: str) -> None:
    browser, pages, guess = FakeBrowser(api), list[Page](), dict[str, Any]({field: "0000 0000"})
    for _ in range(2 * MAX_ATTEMPTS_PER_MINUTE):
        pages.append(await browser.send(path, **guess))
    assert {page.status for page in pages} == {403}
    assert ["Too many attempts" in page.text for page in (pages[0], pages[-1])] == [False, True]


async def test_an_untrusted_proxy_is_named_in_one_warning(api: ApiFixture) -> None:
    transport = httpx.ASGITransport(api.app, client=("10.7.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        for number in range(3):
            headers = {"x-forwarded-for": f"198.51.100.{number}", "sec-fetch-site": "same-origin"}
            await client.post("/sign-in", data={"email": ADA}, headers=headers)
    logged = [fields for event, fields in api.telemetry.logged if event == "forwarded_by_untrusted_proxy"]
    assert logged == [{"peer": "10.7.0.1"}]
