"""A person signs in by an OpenID Connect provider; nobody else acts for that person."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from dashboard.pages import FakeBrowser, Page, signed_in
from sqlalchemy import text

from api.shell.branding import Branding, Site
from fakes import FakeIdentityProvider
from rest.api_fixture import PUBLIC_URL, ApiFixture, open_api
from streams.adapters.sql.pruning import SqlPruning
from streams.core.accounts.oidc import SignInRefused
from streams.core.errors import ProviderFailed
from streams.ports.storage import Prunable

pytestmark = pytest.mark.slow

ADA = "ada@acme.example"
VERIFIED = {"sub": "ada-1", "email": ADA, "email_verified": True}
CALLBACK = "/sign-in/oidc/callback"
SETTINGS = {
    "SCORM_WEBHOOKS_OIDC_ISSUER": "https://login.example.com",
    "SCORM_WEBHOOKS_OIDC_CLIENT_ID": "webhooks",
    "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET": "canary-of-the-tests",
    "SCORM_WEBHOOKS_OIDC_NAME": "Acme Login",
}

FRAMED = Site(Branding(frame_ancestors=("https://lms.example.com",)))

Open = Callable[..., Any]


@pytest.fixture
def provider() -> FakeIdentityProvider:
    return FakeIdentityProvider(VERIFIED)


@pytest.fixture
def opened(tmp_path: Path, provider: FakeIdentityProvider) -> Open:
    """Opens the API with the provider, and more settings without their prefix."""

    @asynccontextmanager
    async def open_with(**more: str) -> AsyncIterator[ApiFixture]:
        settings = SETTINGS | {f"SCORM_WEBHOOKS_{name}": value for name, value in more.items()}
        async with open_api(f"sqlite:///{tmp_path}/oidc.sqlite", settings=settings, provider=provider) as api:
            yield api

    return open_with


async def add_user(api: ApiFixture, account: str = "acme", role: str = "owner") -> None:
    path = f"/v1/accounts/{api.clients[account].account_id}/users"
    await api.operator.post(path, {"email": ADA, "role": role})


async def begin(browser: FakeBrowser, path: str = "/sign-in/oidc") -> httpx.Response:
    return await browser.client.get(path, follow_redirects=False)


def state_of(response: httpx.Response) -> str:
    assert (response.status_code, urlsplit(response.headers["location"]).netloc) == (303, "login.example.com")
    return parse_qs(urlsplit(response.headers["location"]).query)["state"][0]


async def sign_in(browser: FakeBrowser, path: str = "/sign-in/oidc") -> Page:
    state = state_of(await begin(browser, path))
    return await browser.open(f"{CALLBACK}?state={state}&code=code")


async def audit_details(api: ApiFixture, account: str = "acme") -> list[dict[str, Any]]:
    entries = (await api.clients[account].get("/v1/account/audit"))["data"]
    return [{**entry["details"], "actor": entry["actor"]} for entry in entries if entry["action"] == "session.begun"]


def logged(api: ApiFixture, event: str) -> list[dict[str, object]]:
    return [fields for name, fields in api.telemetry.logged if name == event]


# -- who is let in ---------------------------------------------------------------------------------------------


async def test_a_known_verified_address_gets_the_asked_page(opened: Open) -> None:
    async with opened() as api:
        await add_user(api, role="member")
        browser = FakeBrowser(api)
        page = await browser.open("/deliveries?state=dead")
        assert 'href="/sign-in/oidc?next=%2Fdeliveries%3Fstate%3Ddead">Sign in with Acme Login<' in page.html
        page = await sign_in(browser, "/sign-in/oidc?next=%2Fdeliveries%3Fstate%3Ddead")
        assert (page.status, page.path) == (200, "/deliveries?state=dead")
        [begun] = await audit_details(api)
        assert (begun["method"], begun["actor"][:5], begun["email"]) == ("oidc", "user:", ADA)
        assert api.telemetry.counts["oidc_sign_ins_total"] == 1


@pytest.mark.parametrize(
    "claims",
    [
        {**VERIFIED, "email": "ADA@acme.example"},
        {**VERIFIED, "email": "Ada@ACME.EXAMPLE"},
    ],
)
async def test_an_address_is_compared_without_case(
    opened: Open, provider: FakeIdentityProvider, claims: dict[str, object]
) -> None:
    async with opened() as api:
        await add_user(api)
        provider.claims_of_person = claims
        assert (await sign_in(FakeBrowser(api))).path == "/"


async def test_who_is_not_let_in_sees_one_page_without_hints(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened() as api:
        await add_user(api)
        pages = set()
        for claims in (
            {**VERIFIED, "email_verified": False},
            {"sub": "ada-1", "email": ADA},
            {**VERIFIED, "email": "eve@evil.example"},
            {**VERIFIED, "email": "not an address"},
            {"sub": "ada-1"},
            {},
        ):
            provider.claims_of_person = claims
            browser = FakeBrowser(api)
            page = await sign_in(browser)
            assert page.status == 403
            assert (await browser.open("/")).path == "/sign-in"
            pages.add(page.text.partition(" Request ")[0])
        [words] = pages
        assert "Acme Login knows you, but you have no account here yet. Ask an owner of your account" in words
        assert {str(fields["why"]) for fields in logged(api, "oidc_sign_in_refused")} == {
            "the claim email_verified is not true",
            "no user has the e-mail address",
            "the claim email is missing",
            "the claim sub is not a text of 1 to 255 characters",
        }


async def test_the_account_claim_gives_a_role_in_an_account(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened(OIDC_ACCOUNT_CLAIM="accounts", OIDC_ROLE_CLAIM="role") as api:
        mine = api.acme.account_id
        provider.claims_of_person = {**VERIFIED, "accounts": ["acc_of_nobody", mine], "role": "viewer"}
        browser = FakeBrowser(api)
        page = await sign_in(browser)
        assert (page.status, page.path) == (200, "/")
        assert f'title="{ADA}, viewer"' in page.html
        assert (await browser.send("/webhooks/new", url="https://x.example.com/")).status == 403
        [begun] = await audit_details(api)
        assert (begun["method"], begun["actor"], begun["email"]) == ("oidc", "oidc:ada-1", ADA)
        assert "ada-1, by OpenID Connect" in (await browser.open("/audit")).text
        assert await api.operator.get(f"/v1/accounts/{mine}/users") == []


async def test_with_the_account_claim_an_address_opens_nothing(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened(OIDC_ACCOUNT_CLAIM="accounts") as api:
        await add_user(api, "globex")
        assert (await sign_in(FakeBrowser(api))).status == 403
        provider.claims_of_person = {**VERIFIED, "accounts": api.acme.account_id}
        browser = FakeBrowser(api)
        await sign_in(browser)
        assert "globex" not in (await browser.open("/choose-account")).text
        assert (await browser.send("/choose-account", account=api.globex.account_id)).status == 404
        assert "acme" in (await browser.open("/")).text


async def test_accounts_that_do_not_exist_let_nobody_in(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened(OIDC_ACCOUNT_CLAIM="accounts") as api:
        provider.claims_of_person = {**VERIFIED, "accounts": ["acc_of_nobody", "acc_2"]}
        assert (await sign_in(FakeBrowser(api))).status == 403


@pytest.mark.parametrize("by_claim", [True, False])
async def test_a_person_of_two_accounts_chooses(opened: Open, provider: FakeIdentityProvider, by_claim: bool) -> None:
    async with opened(**({"OIDC_ACCOUNT_CLAIM": "accounts"} if by_claim else {})) as api:
        both = [api.acme.account_id, api.globex.account_id]
        provider.claims_of_person = {**VERIFIED, "accounts": [*both, "acc_of_nobody"]}
        for account in () if by_claim else ("acme", "globex"):
            await add_user(api, account, "member")
        browser = FakeBrowser(api)
        page = await sign_in(browser, "/sign-in/oidc?next=%2Fwebhooks")
        assert page.path == "/choose-account?next=%2Fwebhooks"
        for name in ("globex", "acme"):
            assert name in (await browser.open("/choose-account")).text
            page = await browser.send("/choose-account", account=api.clients[name].account_id, next="/webhooks")
            assert (page.path, name in page.text) == ("/webhooks", True)
            assert (await audit_details(api, name))[0]["method"] == "account_choice"
        assert (await browser.send("/choose-account", account="acc_of_nobody")).status == 404


async def test_the_operator_group_opens_the_pages_of_operators(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened(OIDC_OPERATOR_GROUP="webhook operators") as api:
        await add_user(api)
        provider.claims_of_person = {**VERIFIED, "groups": ["learners", "webhook operators"]}
        browser = FakeBrowser(api)
        page = await sign_in(browser, "/sign-in/oidc?next=%2Fwebhooks")
        assert page.path == "/operator"
        assert (await browser.open("/choose-account")).text.count("acme") == 0
        entries = (await api.operator.get("/v1/audit"))["data"]
        [begun] = [entry for entry in entries if entry["action"] == "session.begun"]
        assert (begun["actor"], begun["details"]["method"]) == ("oidc-operator:ada-1", "oidc")
        page = await browser.send(f"/operator/accounts/{api.globex.account_id}/enter", role="viewer")
        assert (page.path, "globex" in page.text) == ("/", True)
        # A customer sees that the platform looked, not who of the platform.
        owner = await signed_in(api, account="globex")
        assert "ada-1" not in (await owner.open("/audit")).text
        await owner.close()


async def test_a_session_ends_with_the_setting_that_allowed_it(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened(OIDC_ACCOUNT_CLAIM="accounts", OIDC_OPERATOR_GROUP="operators") as api:
        member, operator = FakeBrowser(api), FakeBrowser(api)
        provider.claims_of_person = {"sub": "1", "accounts": api.acme.account_id}
        await sign_in(member)
        provider.claims_of_person = {"sub": "2", "groups": "operators"}
        await sign_in(operator)
        for oidc, paths in (
            (api.app.state.services.oidc, ("/", "/operator")),
            (SimpleNamespace(admits_operators=False, name="Acme Login"), ("/", "/operator/sign-in")),
            (None, ("/sign-in", "/operator/sign-in")),
        ):
            api.app.state.services = replace(api.app.state.services, oidc=oidc)
            assert (await member.open("/")).path == paths[0]
            assert (await operator.open("/operator")).path == paths[1]


async def test_a_session_lasts_half_a_day(opened: Open) -> None:
    async with opened() as api:
        await add_user(api)
        browser = FakeBrowser(api)
        await sign_in(browser)
        for _ in range(11):
            api.clock.advance(3600)
            assert (await browser.open("/")).path == "/"
        api.clock.advance(3600)
        assert (await browser.open("/")).path == "/sign-in"


# -- one browser, once, in time --------------------------------------------------------------------------------


async def test_a_state_is_used_once(opened: Open) -> None:
    async with opened() as api:
        await add_user(api)
        browser = FakeBrowser(api)
        response = await begin(browser)
        cookies = dict(browser.client.cookies)
        path = f"{CALLBACK}?state={state_of(response)}&code=code"
        assert (await browser.open(path)).path == "/"
        browser.client.cookies.clear()
        browser.client.cookies.update(cookies)
        page = await browser.open(path)
        assert (page.status, "used already" in page.text) == (403, True)
        assert (await browser.open("/")).path == "/sign-in"


async def test_another_browser_cannot_use_a_state(opened: Open) -> None:
    async with opened() as api:
        await add_user(api)
        mine, victim = FakeBrowser(api), FakeBrowser(api)
        path = f"{CALLBACK}?state={state_of(await begin(mine))}&code=code"
        assert (await victim.open(path)).status == 403
        await begin(victim)
        assert (await victim.open(path)).status == 403
        assert (await victim.open("/")).path == "/sign-in"
        # Nor does the attempt use it up.
        assert (await mine.open(path)).path == "/"


async def test_a_state_expires_after_ten_minutes(opened: Open) -> None:
    async with opened() as api:
        await add_user(api)
        for seconds, status in ((599, 200), (600, 403)):
            browser = FakeBrowser(api)
            state = state_of(await begin(browser))
            api.clock.advance(seconds)
            assert (await browser.open(f"{CALLBACK}?state={state}&code=code")).status == status


async def test_a_state_that_is_not_ours_is_refused(opened: Open) -> None:
    async with opened() as api:
        browser = FakeBrowser(api)
        await begin(browser)
        for query in ("", "?state=&code=code", "?state=x&code=code", "?code=code", "?state=%00&code=%ff", "?error=x"):
            assert (await browser.open(CALLBACK + query)).status == 403, query
            await begin(browser)


async def test_the_cookie_is_lax_short_and_of_this_host(opened: Open) -> None:
    async with opened() as api:
        api.app.state.site = FRAMED
        response = await begin(FakeBrowser(api))
        [cookie] = response.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-oidc=")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert parts == {"httponly", "max-age=600", "path=/", "samesite=lax", "secure"}
        assert response.headers["referrer-policy"] == "no-referrer"


async def test_a_framed_page_opens_the_provider_in_a_new_tab(opened: Open) -> None:
    async with opened() as api:
        api.app.state.site = FRAMED
        page = await FakeBrowser(api).open("/sign-in")
        assert '<a href="/sign-in/oidc" target="_blank" rel="noopener">Sign in with Acme Login</a>' in page.html


async def test_the_database_has_no_value_that_signs_in(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened() as api:
        browser = FakeBrowser(api)
        await begin(browser, "/sign-in/oidc?next=%2Fwebhooks")
        async with api.database.read_transaction() as connection:
            [row] = (await connection.execute(text("SELECT * FROM pending_sign_ins"))).all()
        [request] = provider.requests
        secrets = [request.state, request.nonce, request.verifier, *dict(browser.client.cookies).values()]
        assert len({*secrets}) == 4
        for secret in (*secrets, "/webhooks"):
            assert secret not in str(row)
            assert secret not in repr(request)
            assert secret not in str(api.telemetry.logged)


async def test_what_was_never_finished_is_pruned(opened: Open) -> None:
    async with opened() as api:
        await begin(FakeBrowser(api))
        pruning = SqlPruning(api.database)
        assert (await pruning.prune(Prunable.PENDING_SIGN_INS, api.clock.now(), 10)).rows == 0
        api.clock.advance(601)
        assert (await pruning.prune(Prunable.PENDING_SIGN_INS, api.clock.now(), 10)).rows == 1


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/%09/x"]
)
async def test_no_link_leads_elsewhere_after_the_sign_in(opened: Open, elsewhere: str) -> None:
    async with opened() as api:
        await add_user(api)
        page = await sign_in(FakeBrowser(api), f"/sign-in/oidc?next={elsewhere}")
        assert str(page.response.url) == f"{PUBLIC_URL}/"


# -- what goes wrong -------------------------------------------------------------------------------------------


async def test_a_person_who_says_no_can_try_again(opened: Open) -> None:
    async with opened() as api:
        browser = FakeBrowser(api)
        state = state_of(await begin(browser))
        page = await browser.open(f"{CALLBACK}?state={state}&error=access_denied&error_description=Buy%20now")
        assert page.status == 403
        assert "Acme Login did not sign you in. Try again, or let us send you a code." in page.text
        assert "Buy now" not in page.text
        assert logged(api, "oidc_sign_in_refused") == [{"why": "access_denied"}]
        assert (await browser.open(f"{CALLBACK}?state={state}&code=code")).status == 403


async def test_a_provider_that_is_away_leaves_the_mail_way(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened() as api:
        await add_user(api)
        browser = FakeBrowser(api)
        state = state_of(await begin(browser))
        provider.failure = ProviderFailed("login.example.com did not respond within 5 seconds")
        for path in ("/sign-in/oidc", f"{CALLBACK}?state={state}&code=code"):
            page = await browser.open(path)
            assert page.status == 503
            assert "Acme Login does not work at the moment. Try again in a minute" in page.text
            assert "login.example.com" not in page.text
        assert logged(api, "oidc_provider_failed") == [{"why": str(provider.failure)}] * 2
        assert "mail with a code is on its way" in (await browser.send("/sign-in", email=ADA)).text


async def test_a_token_that_is_not_valid_signs_nobody_in(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened() as api:
        await add_user(api)
        browser = FakeBrowser(api)
        state = state_of(await begin(browser))
        provider.failure = SignInRefused("the id token is not valid: expired_token")
        page = await browser.open(f"{CALLBACK}?state={state}&code=code")
        assert (page.status, "expired_token" in page.text) == (403, False)
        assert (await browser.open("/")).path == "/sign-in"


async def test_a_failed_sign_in_keeps_an_earlier_session(opened: Open, provider: FakeIdentityProvider) -> None:
    async with opened() as api:
        browser = await signed_in(api)
        assert (await sign_in(browser)).status == 403
        assert (await browser.open("/")).path == "/"


async def test_a_network_begins_a_limited_number_of_sign_ins(opened: Open) -> None:
    async with opened() as api:
        browser = FakeBrowser(api)
        statuses = [(await begin(browser)).status_code for _ in range(31)]
        assert statuses == [303] * 30 + [403]


async def test_without_a_provider_there_is_no_link_and_no_page(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    assert "oidc" not in (await browser.open("/sign-in")).html
    for path in ("/sign-in/oidc", f"{CALLBACK}?state=x&code=y"):
        page = await browser.open(path)
        assert (page.status, "no sign-in by OpenID Connect" in page.text) == (404, True)


async def test_a_database_that_is_away_is_said_in_words(opened: Open) -> None:
    async with opened() as api:
        browser = FakeBrowser(api)
        state = state_of(await begin(browser))
        with api.database_away():
            for path in ("/sign-in/oidc", f"{CALLBACK}?state={state}&code=code"):
                assert (await browser.open(path)).status == 503
