"""A person signs in by pages; nobody else acts for that person."""

import re
from pathlib import Path
from typing import Any

import pytest
from dashboard.pages import SAME_ORIGIN, FakeBrowser, signed_in

from rest.api_fixture import PUBLIC_URL, ApiFixture, open_api

pytestmark = pytest.mark.slow

ADA = "ada@acme.example"


async def add_ada(api: ApiFixture) -> None:
    await api.operator.post(f"/v1/accounts/{api.acme.account_id}/users", {"email": ADA})


async def mailed(api: ApiFixture) -> dict[str, str]:
    """The token and the code of the newest mail; empty without one."""
    mails = await api.sign_in_mails()
    return {"token": mails[-1][1], "code": mails[-1][2]} if mails else {}


async def test_a_person_signs_in_by_a_code_and_gets_the_asked_page(api: ApiFixture) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    page = await browser.open("/deliveries?state=dead")
    assert page.path == "/sign-in?next=%2Fdeliveries%3Fstate%3Ddead"
    page = await browser.send("/sign-in", next="/deliveries?state=dead", email=ADA)
    assert "mail with a code is on its way" in page.text
    page = await browser.send("/sign-in/code", next="/deliveries?state=dead", code="1234 5678")
    assert (page.status, "The code is wrong" in page.text) == (403, True)
    page = await browser.send("/sign-in/code", next="/deliveries?state=dead", code=(await mailed(api))["code"])
    assert (page.status, page.path) == (200, "/deliveries?state=dead")
    [cookie] = browser.client.cookies.jar
    assert (cookie.name, cookie.secure, cookie.has_nonstandard_attr("HttpOnly")) == ("__Host-session", True, True)
    page = await browser.send("/sign-out")
    assert page.path == "/sign-in"
    assert (await browser.open("/")).path == "/sign-in"


async def test_to_open_a_mailed_link_does_not_use_it(api: ApiFixture) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    await browser.send("/sign-in", email=ADA)
    token = (await mailed(api))["token"]
    for _ in range(3):
        assert "Sign in" in (await browser.open(f"/sign-in/{token}")).text
    assert (await browser.client.head(f"/sign-in/{token}")).status_code in (200, 405)
    assert (await browser.send(f"/sign-in/{token}")).path == "/"
    other = await FakeBrowser(api).send(f"/sign-in/{token}")
    assert (other.status, "used already" in other.text) == (403, True)


async def test_a_link_says_who_signs_in_and_where(api: ApiFixture) -> None:
    await add_ada(api)
    acme = api.acme.account_id
    await FakeBrowser(api).send("/sign-in", email=ADA)
    mail = f"/sign-in/{(await mailed(api))['token']}"
    portal = (await api.operator.post(f"/v1/accounts/{acme}/portal-links", {"role": "viewer"}))["url"]
    operator = (await api.sign_in.create_operator_link(actor="test")).url
    for path, words in (
        (mail, f"Who {ADA} Account acme Role owner"),
        (portal.removeprefix(PUBLIC_URL), "Account acme Role viewer"),
        (operator.removeprefix(PUBLIC_URL), "Role operator"),
    ):
        assert words in (await FakeBrowser(api).open(path)).text, path
    await api.operator.post(f"/v1/accounts/{api.globex.account_id}/users", {"email": ADA, "role": "viewer"})
    page = await FakeBrowser(api).open(mail)
    assert f"Who {ADA} Account one of 2, which you choose then" in page.text


async def test_a_link_that_is_over_says_so_at_once(api: ApiFixture) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    await browser.send("/sign-in", email=ADA)
    used = f"/sign-in/{(await mailed(api))['token']}"
    await browser.send(used)
    await browser.send("/sign-out")
    await browser.send("/sign-in", email=ADA)
    expired = f"/sign-in/{(await mailed(api))['token']}"
    api.clock.advance(16 * 60)
    for path in (used, expired, "/sign-in/nonsense"):
        page = await FakeBrowser(api).open(path)
        assert page.status == 403, path
        assert "The link was used already, or has expired: ask for a new one." in page.text
        assert "<button" not in page.html.partition("<main")[2].partition("</main>")[0]


async def test_a_deployment_without_mail_says_whom_to_ask(api: ApiFixture, tmp_path: Path) -> None:
    words = "This deployment sends no mail. Ask your operator for a link to sign in."
    for settings, is_said in (
        ({"SMTP_URL": ""}, True),
        ({"SMTP_URL": "", "SCORM_WEBHOOKS_SENDS_MAIL": "true"}, False),
        ({"SCORM_WEBHOOKS_SENDS_MAIL": "false"}, True),
    ):
        async with open_api(f"sqlite:///{tmp_path}/mail.sqlite", settings=settings) as other:
            for path in ("/sign-in", "/sign-in/code"):
                page = await FakeBrowser(other).open(path)
                assert (words in page.text) is is_said, settings
    assert words not in (await FakeBrowser(api).open("/sign-in")).text


async def test_an_unknown_address_sees_the_same_pages(api: ApiFixture) -> None:
    await add_ada(api)
    known = await FakeBrowser(api).send("/sign-in", email=ADA)
    unknown = await FakeBrowser(api).send("/sign-in", email="eve@acme.example")
    assert (known.status, known.path, known.html) == (unknown.status, unknown.path, unknown.html)


async def test_a_wrong_address_is_kept_and_named(api: ApiFixture) -> None:
    page = await FakeBrowser(api).send("/sign-in", email="<ada>")
    assert page.status == 422
    assert "is not an e-mail address" in page.text
    assert 'value="&lt;ada&gt;"' in page.html


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/\t/x"]
)
async def test_no_link_leads_elsewhere_after_the_sign_in(api: ApiFixture, elsewhere: str) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    await browser.send("/sign-in", email=ADA)
    page = await browser.send("/sign-in/code", next=elsewhere, code=(await mailed(api))["code"])
    assert (str(page.response.url), page.path) == (f"{PUBLIC_URL}/", "/")


async def test_a_network_has_a_limited_number_of_attempts(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    statuses = [(await browser.send("/sign-in/code", code="0000 0000")).status for _ in range(32)]
    page = await browser.send("/sign-in/code", code="0000 0000")
    assert "Too many attempts" in page.text
    assert set(statuses) == {403}


async def test_a_session_of_before_the_sign_in_is_worth_nothing(api: ApiFixture) -> None:
    await add_ada(api)
    browser = FakeBrowser(api)
    browser.client.cookies.set("__Host-session", "chosen-before", domain="hooks.example.com")
    await browser.send("/sign-in", email=ADA)
    await browser.send("/sign-in/code", code=(await mailed(api))["code"])
    thief = FakeBrowser(api)
    thief.client.cookies.set("__Host-session", "chosen-before", domain="hooks.example.com")
    assert (await thief.open("/")).path == "/sign-in"


async def test_a_person_of_two_accounts_chooses(api: ApiFixture) -> None:
    await add_ada(api)
    await api.operator.post(f"/v1/accounts/{api.globex.account_id}/users", {"email": ADA, "role": "viewer"})
    browser = FakeBrowser(api)
    await browser.send("/sign-in", email=ADA)
    page = await browser.send("/sign-in/code", code=(await mailed(api))["code"])
    assert page.path == "/choose-account"
    assert f"{ADA} Sign out" in page.text
    assert "acme" in page.text
    assert "globex" in page.text
    page = await browser.send("/choose-account", account=api.globex.account_id)
    assert (page.path, "globex" in page.text) == ("/", True)
    assert "Choose another account" in (await browser.open("/account")).text


async def test_a_link_opens_the_account_of_its_user_alone(api: ApiFixture) -> None:
    """Globex typed the address of acme's owner: that proves nothing."""
    await add_ada(api)
    users = f"/v1/accounts/{api.globex.account_id}/users"
    typed = await api.operator.post(users, {"email": ADA, "role": "viewer"})
    link = await api.operator.post(f"{users}/{typed['id']}/sign-in-links")
    browser = FakeBrowser(api)
    page = await browser.send(link["url"].removeprefix(PUBLIC_URL))
    assert (page.path, "globex" in page.text) == ("/", True)
    page = await browser.open("/choose-account")
    assert "acme" not in page.text.replace(ADA, "")
    page = await browser.send("/choose-account", account=api.acme.account_id)
    assert page.status == 404
    page = await browser.open("/account")
    assert ("globex" in page.text, "Choose another account" in page.text) == (True, False)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"sec-fetch-site": "cross-site"}, id="another site"),
        pytest.param({"sec-fetch-site": "same-site"}, id="another host of the site"),
        pytest.param({"sec-fetch-site": "none"}, id="the address line"),
        pytest.param({"origin": "https://evil.example"}, id="another origin"),
        pytest.param({"origin": "null"}, id="a sandbox"),
        pytest.param({}, id="no origin"),
    ],
)
async def test_no_other_page_sends_a_form(api: ApiFixture, browser: FakeBrowser, headers: dict[str, str]) -> None:
    before = (await api.acme.get("/v1/webhooks"))["data"]
    for path in ("/webhooks/new", "/sign-out", "/account/users", "/dead-letters", "/sign-in"):
        page = await browser.send(path, headers, url="https://crm.example.com/hooks", email="eve@evil.example")
        assert page.status == 403, path
        assert "did not come from a page of the dashboard" in page.text
    assert (await api.acme.get("/v1/webhooks"))["data"] == before
    assert (await browser.open("/")).path == "/"


async def test_an_older_browser_sends_its_origin(browser: FakeBrowser) -> None:
    page = await browser.send("/zone", {"origin": PUBLIC_URL}, zone="Europe/Berlin", next="/deliveries")
    assert page.path == "/deliveries"


async def test_every_page_has_a_strict_policy(api: ApiFixture, browser: FakeBrowser) -> None:
    for page in (await browser.open("/"), await browser.open("/nothing-here"), await FakeBrowser(api).open("/sign-in")):
        policy = page.response.headers.get("content-security-policy", "")
        if page.path == "/nothing-here":
            continue
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.response.headers["referrer-policy"] == "no-referrer"
        assert page.response.headers["cache-control"] == "no-store"
        assert not set(SAME_ORIGIN) & set(page.response.headers)
        assert " style=" not in page.html
        assert " onclick" not in page.html


async def test_the_zone_of_times_is_chosen(browser: FakeBrowser) -> None:
    assert (await browser.send("/zone", zone="Nowhere/Land")).status == 422
    await browser.send("/zone", zone="Asia/Tokyo", next="/account")
    assert "JST" in (await browser.open("/audit")).text


@pytest.mark.parametrize("role", ["owner", "member", "viewer"])
async def test_each_role_sees_what_it_may_do(api: ApiFixture, role: str) -> None:
    made = await api.acme.webhook()
    browser = await signed_in(api, role)
    page = await browser.open(f"/webhooks/{made['id']}")
    assert ("Signing secret" in page.text) is (role != "viewer")
    writes: dict[str, dict[str, Any]] = {
        "/webhooks/new": {"url": "https://x.example.com/"},
        f"/webhooks/{made['id']}/edit": {"url": "https://x.example.com/"},
        f"/webhooks/{made['id']}/secret": {},
        f"/webhooks/{made['id']}/pause": {},
    }
    for path, fields in writes.items():
        status = (await browser.send(path, **fields)).status
        assert (status == 403) is (role == "viewer"), path
    for path in ("/account/users", "/account/keys"):
        status = (await browser.send(path, email="x@y.example", name="x", scopes="webhooks:read", role="owner")).status
        assert (status == 403) is (role != "owner"), path
    await browser.close()


async def test_each_link_of_the_sign_in_page_leads_somewhere(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    page = await browser.open("/sign-in?next=/webhooks/wh_1")
    links = re.findall(r'<a href="([^"]*)"', page.html)
    assert {"/docs/api/", "/operator/sign-in"} <= {*links}
    assert {link: (await browser.open(link)).status for link in links} == dict.fromkeys(links, 200)
    await browser.close()
