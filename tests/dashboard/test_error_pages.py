"""An error is a page in words, with the header of the person who is signed in."""

import pytest
from dashboard.pages import SAME_ORIGIN, FakeBrowser, signed_in

from rest.api_fixture import OPERATOR_KEY, ApiFixture

pytestmark = pytest.mark.slow

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_an_error_page_says_which_field_in_words(browser: FakeBrowser) -> None:
    page = await browser.open("/deliveries?state=nonsense")
    assert page.status == 422
    assert "State is one of waiting, held, " in page.text
    page = await browser.open("/dead-letters/preview?act=replay")
    assert "Choose retry or discard." in page.text


async def test_an_error_page_has_the_header_of_a_person(browser: FakeBrowser) -> None:
    page = await browser.open("/webhooks/wh_of_nobody")
    assert page.status == 404
    assert "Sign out" in page.text
    assert 'href="/dead-letters"' in page.html


async def test_an_error_page_has_the_header_of_an_operator(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    await browser.send("/operator/sign-in", key=OPERATOR_KEY)
    page = await browser.send("/operator/accounts/acc_of_nobody/enter", role="viewer")
    assert page.status == 404
    assert "Sign out" in page.text
    assert 'href="/operator/stages"' in page.html
    await browser.close()


async def test_a_zone_that_is_none_is_ignored(browser: FakeBrowser) -> None:
    cookies = [f"{cookie.name}={cookie.value}".encode() for cookie in browser.client.cookies.jar]
    for zone in ("Europe", "..", "", "/etc/passwd", "x" * 5000, '"UTC\\000"', "\ud800"):
        header = b"; ".join([*cookies, b"zone=" + zone.encode("utf-8", "surrogatepass")])
        for path, status in (("/", 200), ("/audit", 200), ("/nothing-here", 404), ("/sign-in", 200)):
            response = await browser.client.get(path, headers=[(b"cookie", header), (b"accept", b"text/html")])
            assert response.status_code == status, (zone, path)


async def test_an_error_page_without_a_session_has_no_header(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    page = await browser.open("/nothing-here", **HTML)
    assert (page.status, "Sign out" in page.text) == (404, False)
    assert 'href="/sign-in"' in page.html
    await browser.close()


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("/webhooks/wh_1/secret/rotate", "/webhooks/wh_1"),
        ("/deliveries/d_1/retry", "/deliveries/d_1"),
        ("/account/keys", "/account"),
    ],
)
async def test_the_address_of_a_form_is_a_page_in_words(browser: FakeBrowser, path: str, above: str) -> None:
    page = await browser.open(path, **HTML)
    assert page.status == 405
    assert "This address has no page" in page.text
    assert f'href="{above}"' in page.html
    assert page.response.headers["allow"] == "POST"


UNKNOWN = [
    *(
        "/nothing",
        "/webhooks/wh_1/nothing/more",
        "/account/",
        "/operator/nothing",
        "/sign-in/a/b",
    ),
    *("/static/v/nothing.css", "/docs/nothing", "/docs/api/assets/nothing", "/runtime/nothing", "/v1x"),
]


@pytest.mark.parametrize("accept", [HTML["accept"], "Text/HTML"])
async def test_an_unknown_page_leads_back(browser: FakeBrowser, accept: str) -> None:
    for path in UNKNOWN:
        page = await browser.open(path, accept=accept)
        assert (page.status, page.response.headers["content-type"]) == (404, "text/html; charset=utf-8"), path
        assert 'href="/">To the overview</a>' in page.html, path


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/account/keys", "application/json"),
        ("/nothing", "*/*"),
        ("/v1", "text/html"),
        ("/v1/", "text/html"),
        ("/v1/webhooks/wh_1/nothing", HTML["accept"]),
    ],
)
async def test_a_program_gets_a_problem(browser: FakeBrowser, path: str, accept: str) -> None:
    page = await browser.open(path, accept=accept)
    assert page.response.headers["content-type"] == "application/problem+json"


async def test_the_foot_of_a_form_s_page_leads_back(api: ApiFixture, browser: FakeBrowser) -> None:
    webhook = await api.acme.webhook()
    page = await browser.send(f"/webhooks/{webhook['id']}/secret")
    assert f'name="next" value="/webhooks/{webhook["id"]}"' in page.html
    page = await browser.send("/theme", theme="dark", next=f"/webhooks/{webhook['id']}")
    assert page.status == 200


async def test_an_account_that_is_opened_twice_is_one(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    await browser.send("/operator/sign-in", key=OPERATOR_KEY)
    fields = {"account_name": "Initech", "once": "the-same-form"}
    first = await browser.client.post("/operator/accounts", data=fields, headers=SAME_ORIGIN)
    assert "Initech" in first.text
    again = await browser.client.post("/operator/accounts", data=fields, headers=SAME_ORIGIN)
    assert again.status_code == 409
    page = await browser.open("/operator?name=Initech")
    assert page.text.count("Initech") == 1
    await browser.close()


async def test_a_viewer_is_refused_in_words(api: ApiFixture) -> None:
    browser = await signed_in(api, "viewer")
    page = await browser.open("/webhooks/new")
    assert "Your role in this account, viewer, does not allow this: ask an owner." in page.text
    await browser.close()


async def test_an_error_of_our_own_is_a_page_too(api: ApiFixture, browser: FakeBrowser) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret text")

    api.app.state.services.search.search = broken
    page = await browser.open("/deliveries")
    assert page.status == 500
    assert "The error is in our own code" in page.text
    assert "secret text" not in page.html
    assert page.response.headers["x-request-id"] in page.text
    assert [fields["error"] for name, fields in api.telemetry.logged if name == "request_crashed"] == ["RuntimeError"]


async def test_a_form_that_is_too_large_is_refused_in_words(browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", {**SAME_ORIGIN, **HTML}, description="x" * 2_000_000)
    assert page.status == 413
    assert "A form has at most 1 MiB" in page.text
