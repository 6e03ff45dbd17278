"""People sign in by a certified OpenID Connect provider, from the link on the page to the session."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from dashboard.pages import FakeBrowser, Page

from real.oidc import running_provider
from rest.api_fixture import PUBLIC_URL, ApiFixture, open_api

pytestmark = pytest.mark.real
SECRET = "a secret: 100% + ~"
CLIENT = {
    "client_id": "webhooks",
    "client_secret": SECRET,
    "redirect_uris": [f"{PUBLIC_URL}/sign-in/oidc/callback"],
}
ADA = {"sub": "ada-1", "email": "ada@acme.example", "email_verified": True}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_provider(CLIENT, tmp_path_factory.mktemp("oidc")) as issuer:
        yield issuer


@asynccontextmanager
async def api_with(issuer: str, tmp_path: Path, **more: str) -> AsyncIterator[ApiFixture]:
    names = {"ISSUER": issuer, "CLIENT_ID": "webhooks", "CLIENT_SECRET": SECRET, **more}
    settings = {f"SCORM_WEBHOOKS_OIDC_{name}": value for name, value in names.items()}
    # The provider's tokens have the time of this machine.
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", settings=settings, now=datetime.now(UTC)) as api:
        yield api


async def sign_in(browser: FakeBrowser, person: dict[str, object]) -> Page:
    """Press the link, sign in at the provider, and come back."""
    begun = await browser.client.get("/sign-in/oidc?next=/webhooks", follow_redirects=False)
    url = httpx.URL(begun.headers["location"]).copy_merge_params({"login_hint": json.dumps(person)})
    async with httpx.AsyncClient() as elsewhere:
        while url.host == "127.0.0.1":
            response = await elsewhere.get(url)
            assert response.status_code in (302, 303), response.text
            url = response.url.join(response.headers["location"])
    assert f"{url.scheme}://{url.host}" == PUBLIC_URL
    return await browser.open(url.raw_path.decode())


async def test_a_person_signs_in_by_a_verified_address(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path) as api:
        await api.operator.post(f"/v1/accounts/{api.acme.account_id}/users", {"email": "ada@acme.example"})
        page = await sign_in(FakeBrowser(api), ADA)
        assert (page.status, page.path) == (200, "/webhooks"), page.text
        assert "acme" in page.text
        page = await sign_in(FakeBrowser(api), {**ADA, "email_verified": False})
        assert (page.status, "you have no account here yet" in page.text) == (403, True)


async def test_a_person_of_two_accounts_chooses_one(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path, ACCOUNT_CLAIM="accounts", ROLE_CLAIM="webhooks_role") as api:
        both = [api.acme.account_id, api.globex.account_id]
        browser = FakeBrowser(api)
        page = await sign_in(browser, {"sub": "bob", "accounts": both, "webhooks_role": "owner"})
        assert page.path == "/choose-account?next=%2Fwebhooks", page.text
        page = await browser.send("/choose-account", account=api.globex.account_id, next="/account")
        assert (page.path, "API keys" in page.text, "oidc:bob" in page.text) == ("/account", True, True)


async def test_a_person_of_the_group_is_an_operator(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path, OPERATOR_GROUP="operators") as api:
        page = await sign_in(FakeBrowser(api), {"sub": "olga", "groups": ["operators"]})
        assert page.path == "/operator", page.text


async def test_a_code_is_used_once(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path, OPERATOR_GROUP="operators") as api:
        browser = FakeBrowser(api)
        page = await sign_in(browser, {"sub": "olga", "groups": ["operators"]})
        [came_back, *_] = page.response.history
        page = await browser.open(came_back.url.raw_path.decode())
        assert (page.status, urlsplit(page.path).path) == (403, "/sign-in/oidc/callback")


async def test_a_person_who_says_no_comes_back(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path) as api:
        page = await sign_in(FakeBrowser(api), {"refuse": True})
        assert (page.status, "did not sign you in. Try again" in page.text) == (403, True)


async def test_a_wrong_client_secret_is_logged(issuer: str, tmp_path: Path) -> None:
    async with api_with(issuer, tmp_path, CLIENT_SECRET="wrong") as api:
        page = await sign_in(FakeBrowser(api), ADA)
        assert (page.status, "does not work at the moment" in page.text) == (503, True)
        [why] = [fields["why"] for event, fields in api.telemetry.logged if event == "oidc_provider_failed"]
        assert why == "the provider's token endpoint answers 'invalid_client'"
