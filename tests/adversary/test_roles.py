"""Who may only read learns no secret, and nobody breaks a page for others or for themselves."""

import http.cookiejar
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from adversary.system import OPERATOR_KEY, Account, AdversarySystem
from builders import EXAMPLE
from e2e.system import until

pytestmark = pytest.mark.e2e

HTML = {"Accept": "text/html"}
OVERRIDE = "\u202e"
SECRETS = (b"marker-query", b"marker-fallback", b"marker-header")


class Browser:
    """A person with a role, signed in by a portal link."""

    def __init__(self, attacked: AdversarySystem, account: Account, role: str) -> None:
        self._base = f"http://127.0.0.1:{attacked.api_port}"
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))
        path = f"/v1/accounts/{account.id}/portal-links"
        link = attacked.call("POST", path, {"role": role}, key=OPERATOR_KEY).json["url"]
        assert self.open(urlsplit(link).path, b"")[0] == 200

    def open(self, path: str, form: bytes | None = None, zone: str = "UTC") -> tuple[int, bytes]:
        cookies = "; ".join([f"zone={zone}", *(f"{cookie.name}={cookie.value}" for cookie in self._jar)])
        headers = {**HTML, "Sec-Fetch-Site": "same-origin", "Cookie": cookies}
        try:
            with self._opener.open(urllib.request.Request(self._base + path, form, headers), timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def delivered(attacked: AdversarySystem, account: Account) -> tuple[str, str]:
    """A webhook with secrets in its URLs and headers, and a delivery of an event with an untrusted text."""
    url = attacked.receiver.url("/roles?key=marker-query")
    more = {"fallbackUrl": attacked.receiver.url("/late?key=marker-fallback"), "headers": {"X-Key": "marker-header"}}
    webhook_id = attacked.register(account, url, **more)
    data = {**EXAMPLE, "learnerId": f"user{OVERRIDE}gpj.exe"}
    event = {"type": "session.completed", "createdAt": "2026-04-10T14:32:00Z", "data": data}
    assert attacked.call("POST", "/v1/events", event, key=account.key).status == 202
    until(lambda: [row["state"] for row in attacked.deliveries(account, webhook_id)] == ["delivered"], 20, "delivered")
    attacked.call("POST", f"/v1/webhooks/{webhook_id}/pause", key=account.key)
    return webhook_id, attacked.deliveries(account, webhook_id)[0]["id"]


def test_who_may_only_read_sees_no_secret(attacked: AdversarySystem, account: Account) -> None:
    webhook_id, delivery_id = delivered(attacked, account)
    new = {"name": "reader", "scopes": ["webhooks:read", "deliveries:read"]}
    key = attacked.call("POST", f"/v1/accounts/{account.id}/keys", new, key=OPERATOR_KEY).json["apiKey"]
    viewer = Browser(attacked, account, "viewer")
    for path in (f"/webhooks/{webhook_id}", f"/deliveries/{delivery_id}", "/webhooks", "/deliveries"):
        shown = [viewer.open(path), viewer.open("/audit"), viewer.open("/notifications"), viewer.open("/")]
        response = attacked.call("GET", f"/v1{path}", key=key)
        for status, body in (*shown, (response.status, response.body)):
            assert status == 200, path
            assert not any(secret in body for secret in SECRETS), path
    for path in ("/v1/account/audit", "/v1/notifications", f"/v1/deliveries/{delivery_id}/attempts"):
        assert not any(secret in attacked.call("GET", path, key=key).body for secret in SECRETS), path
    owner = attacked.call("GET", f"/v1/webhooks/{webhook_id}", key=account.key)
    assert b"marker-query" in owner.body


def test_a_command_to_copy_shows_a_direction_override(attacked: AdversarySystem, account: Account) -> None:
    _, delivery_id = delivered(attacked, account)
    until(lambda: "payload" in attacked.delivery(account, delivery_id), 20, "the payload is stored")
    _, page = Browser(attacked, account, "owner").open(f"/deliveries/{delivery_id}")
    assert OVERRIDE.encode() not in page
    assert rb"\xe2\x80\xae" in page


@pytest.mark.parametrize("zone", ["Europe", "..", "", "/etc/passwd", "x" * 5000, '"UTC\\000"', "\xff"], ids=ascii)
def test_an_untrusted_zone_breaks_no_page(attacked: AdversarySystem, account: Account, zone: str) -> None:
    browser = Browser(attacked, account, "owner")
    assert [browser.open(path, zone=zone)[0] for path in ("/", "/audit", "/nothing")] == [200, 200, 404]


def test_an_unknown_page_is_a_page_for_a_browser(attacked: AdversarySystem) -> None:
    for path in ("/nothing", "/operator/nothing", "/static/v/nothing"):
        response = attacked.call("GET", path, headers=HTML)
        assert (response.status, response.headers.get_content_type()) == (404, "text/html"), path
        assert b'href="/sign-in"' in response.body
    for path, headers in (("/v1/nothing", HTML), ("/v1", HTML), ("/nothing", {})):
        response = attacked.call("GET", path, headers=headers)
        assert response.headers.get_content_type() == "application/problem+json", path


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://lms.example.com@evil.example/", "//evil.example", "https://e/" + "x" * 2048]
)
def test_an_invalid_return_url_is_refused(attacked: AdversarySystem, account: Account, url: str) -> None:
    path = f"/v1/accounts/{account.id}/portal-links"
    response = attacked.call("POST", path, {"returnUrl": url}, key=OPERATOR_KEY)
    assert (response.status, response.wrong_fields) == (422, {"returnUrl"})
