"""Every page requires its permission, refuses other origins, and shows no other account's data."""

from collections.abc import Mapping

import pytest
from dashboard.pages import SAME_ORIGIN, FakeBrowser, signed_in

from builders import attempt, dead_letter, delivery
from rest.api_fixture import OPERATOR_KEY, ApiFixture
from rest.test_permissions import is_page, walk
from streams.core.accounts.access import MANAGE_ACCOUNT, OPERATOR, PERMISSIONS, Role, Scope

OPEN, ANYBODY = "open", "anybody who is signed in"
# What each page needs, repeated here so that a mistake in one of them fails a test.
NEEDS = {
    "GET /static/theme.css": OPEN,
    "GET /static/{version}/{name}": OPEN,
    "GET /sign-in": OPEN,
    "POST /sign-in": OPEN,
    "GET /sign-in/code": OPEN,
    "POST /sign-in/code": OPEN,
    "GET /sign-in/oidc": OPEN,
    "GET /sign-in/oidc/callback": OPEN,
    "GET /sign-in/{token}": OPEN,
    "POST /sign-in/{token}": OPEN,
    "POST /sign-out": OPEN,
    "POST /zone": OPEN,
    "POST /theme": OPEN,
    "GET /choose-account": ANYBODY,
    "POST /choose-account": ANYBODY,
    "GET /": ANYBODY,
    "GET /webhooks": ANYBODY,
    "GET /webhooks/new": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/new": Scope.WEBHOOKS_WRITE,
    "GET /webhooks/{webhook_id}": ANYBODY,
    "GET /webhooks/{webhook_id}/code": ANYBODY,
    "GET /webhooks/{webhook_id}/edit": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/edit": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/pause": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/enable": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/test": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/secret": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/secret/rotate": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/secret/finish-rotation": Scope.WEBHOOKS_WRITE,
    "GET /webhooks/{webhook_id}/delete": Scope.WEBHOOKS_WRITE,
    "POST /webhooks/{webhook_id}/delete": Scope.WEBHOOKS_WRITE,
    "GET /events": ANYBODY,
    "GET /events/types": ANYBODY,
    "GET /deliveries": ANYBODY,
    "GET /deliveries/retry": Scope.DELIVERIES_WRITE,
    "POST /deliveries/retry": Scope.DELIVERIES_WRITE,
    "GET /deliveries/{delivery_id}": ANYBODY,
    "GET /deliveries/{delivery_id}/payload": ANYBODY,
    "POST /deliveries/{delivery_id}/retry": Scope.DELIVERIES_WRITE,
    "GET /dead-letters": ANYBODY,
    "POST /dead-letters": Scope.DELIVERIES_WRITE,
    "GET /dead-letters/preview": Scope.DELIVERIES_WRITE,
    "GET /webhooks/{webhook_id}/replay": Scope.DELIVERIES_WRITE,
    "POST /webhooks/{webhook_id}/replay": Scope.DELIVERIES_WRITE,
    "GET /jobs/{job_id}": ANYBODY,
    "POST /jobs/{job_id}/cancel": Scope.DELIVERIES_WRITE,
    "GET /account": ANYBODY,
    "POST /account/keys": MANAGE_ACCOUNT,
    "POST /account/keys/{key_id}/revoke": MANAGE_ACCOUNT,
    "POST /account/keys/{key_id}/remove": MANAGE_ACCOUNT,
    "GET /account/terminal": ANYBODY,
    "POST /account/terminal": Scope.DELIVERIES_WRITE,
    "POST /account/terminal/{key_id}/disconnect": Scope.DELIVERIES_WRITE,
    "POST /account/users": MANAGE_ACCOUNT,
    "POST /account/users/{user_id}/role": MANAGE_ACCOUNT,
    "POST /account/users/{user_id}/remove": MANAGE_ACCOUNT,
    "POST /account/sessions/{session_id}/revoke": MANAGE_ACCOUNT,
    "GET /account/learners": Scope.LEARNERS_ERASE,
    "POST /account/learners": Scope.LEARNERS_ERASE,
    "POST /account/learners/erase": Scope.LEARNERS_ERASE,
    "GET /account/erasures/{erasure_id}": Scope.LEARNERS_ERASE,
    "GET /audit": ANYBODY,
    "GET /usage": ANYBODY,
    "GET /usage/{month}.csv": ANYBODY,
    "GET /webhooks/{webhook_id}/deliveries.csv": ANYBODY,
    "GET /notifications": ANYBODY,
    "POST /notifications": MANAGE_ACCOUNT,
    "GET /operator/sign-in": OPEN,
    "POST /operator/sign-in": OPEN,
    "GET /operator": OPERATOR,
    "GET /operator/stages": OPERATOR,
    "POST /operator/accounts": OPERATOR,
    "POST /operator/accounts/{account_id}/plan-limit": OPERATOR,
    "POST /operator/accounts/{account_id}/enter": OPERATOR,
    "POST /operator/leave": OPERATOR,
}
_IDS = ("webhook_id", "delivery_id", "job_id", "key_id", "user_id", "session_id", "erasure_id")
_NAMES = {"account_id": "acc_1", "month": "2026-04", "token": "t", "version": "v", "name": "style.css"}
NOTHING_THERE = {name: f"{name}_1" for name in _IDS} | _NAMES
# A test event waits for an outcome, and no `deliver` runs here.
SLOW = "POST /webhooks/{webhook_id}/test"


async def call(browser: FakeBrowser, route: str, ids: Mapping[str, str] = NOTHING_THERE) -> tuple[int, str]:
    """The status, and where a redirect leads."""
    method, path = route.split(" ")
    response = await browser.client.request(
        method, path.format(**{**NOTHING_THERE, **ids}), headers=SAME_ORIGIN, follow_redirects=False
    )
    return response.status_code, response.headers.get("location", "")


def test_every_page_is_in_the_list(api: ApiFixture) -> None:
    found = {
        f"{method} {route.path}"
        for route in walk(api.app.routes)
        if is_page(route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == set(NEEDS)


async def test_a_page_asks_who_is_not_signed_in_to_sign_in(api: ApiFixture) -> None:
    for route, needed in NEEDS.items():
        status, location = await call(FakeBrowser(api), route)
        if needed == OPEN:
            assert not location.startswith("/sign-in?"), route
        else:
            place = "/operator/sign-in" if needed == OPERATOR else "/sign-in"
            assert (status, location[: len(place)]) == (303, place), route


@pytest.mark.parametrize("role", Role)
async def test_a_role_opens_the_pages_it_may(api: ApiFixture, role: Role) -> None:
    browser = await signed_in(api, role)
    for route, needed in NEEDS.items():
        if needed in (OPEN, OPERATOR) or (route == SLOW and role is not Role.VIEWER):
            continue
        allowed = needed == ANYBODY or needed in PERMISSIONS[role]
        status, location = await call(browser, route)
        assert (status == 403) is not allowed, route
        assert not location.startswith("/sign-in"), route
    for route in (route for route, needed in NEEDS.items() if needed == OPERATOR):
        assert await call(browser, route) == (303, "/operator/sign-in"), route
    await browser.close()


async def test_an_operator_without_an_account_opens_no_page_of_one(api: ApiFixture) -> None:
    browser = FakeBrowser(api)
    await browser.send("/operator/sign-in", key=OPERATOR_KEY)
    for route, needed in NEEDS.items():
        if needed not in (OPEN, OPERATOR) and "choose-account" not in route:
            assert await call(browser, route) == (303, "/operator"), route


async def test_every_form_from_another_origin_is_refused(api: ApiFixture) -> None:
    browser = await signed_in(api)
    for route in (route for route in NEEDS if route.startswith("POST")):
        path = route.removeprefix("POST ").format(**NOTHING_THERE)
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {}):
            page = await browser.send(path, headers)
            assert page.status == 403, route
            assert "did not come from a page of the dashboard" in page.text, route
    await browser.close()


async def test_no_page_shows_another_account(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    known, letter = delivery(**mine), dead_letter(delivery=delivery(**mine, event_id="evt_dead"))
    await api.record(known, attempt(**mine), letter)
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/retry-waiting")
    path = f"/v1/accounts/{api.acme.account_id}"
    user = await api.operator.post(f"{path}/users", {"email": "ada@acme.example"})
    key = await api.operator.post(f"{path}/keys", {"name": "x", "scopes": ["webhooks:read"]})
    owner = await signed_in(api)
    [session] = await api.operator.get(f"{path}/sessions")
    ids = {
        "webhook_id": made["id"],
        "delivery_id": known.id,
        "job_id": job["id"],
        "user_id": user["id"],
        "key_id": key["id"],
        "session_id": session["id"],
    }
    other = await signed_in(api, account="globex")
    for route, needed in NEEDS.items():
        if needed not in (OPEN, OPERATOR) and any(f"{{{name}}}" in route for name in ids):
            assert (await call(other, route, ids))[0] in (404, 422), route
    for name in ("/", "/webhooks", "/deliveries", "/dead-letters", "/account", "/audit", "/notifications"):
        page = await other.open(name)
        assert page.status == 200
        assert not any(one in page.html for one in ids.values()), name
    # Its owner finds it.
    for route in NEEDS:
        if route.startswith("GET") and any(f"{{{name}}}" in route for name in ids):
            assert (await call(owner, route, ids))[0] == 200, route
    await owner.close()
    await other.close()
