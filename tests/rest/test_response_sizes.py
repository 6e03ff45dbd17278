"""Every GET response stays small, whatever a customer and an endpoint have stored."""

from datetime import timedelta
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, signed_in

from builders import NOON, attempt, dead_letter, delivery
from rest.api_fixture import OPERATOR_KEY, URL, ApiFixture
from rest.test_permissions import walk
from streams.adapters.sql.engine import keyset
from streams.core.accounts.access import make_key
from streams.core.accounts.account import Account
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.limits import (
    MAX_EMAILS,
    MAX_KEYS_PER_ACCOUNT,
    MAX_NAME_CHARACTERS,
    MAX_SCOPE_IDS_PER_ACCOUNT,
    MAX_SESSIONS_LISTED,
    MAX_USERS_PER_ACCOUNT,
)
from streams.features.shared.accounts import SqlAccounts

pytestmark = pytest.mark.slow

MAX_BYTES = 1_000_000
WEBHOOKS = 110
ACCOUNTS = 300
# The query that asks for the most of each route, or why the route is not asked.
NOT_ASKED = "a fixed text"
ROUTES = {
    "/healthz": NOT_ASKED,
    "/readyz": NOT_ASKED,
    "/docs": NOT_ASKED,
    "/docs/api": NOT_ASKED,
    "/docs/api/": NOT_ASKED,
    "/docs/api/{name}": NOT_ASKED,
    "/openapi.json": NOT_ASKED,
    "/docs/{path:path}": NOT_ASKED,
    "/llms.txt": NOT_ASKED,
    "/static/theme.css": NOT_ASKED,
    "/static/{version}/{name}": NOT_ASKED,
    "/sign-in": NOT_ASKED,
    "/sign-in/code": NOT_ASKED,
    "/sign-in/oidc": NOT_ASKED,
    "/sign-in/oidc/callback": NOT_ASKED,
    "/sign-in/{token}": NOT_ASKED,
    "/operator/sign-in": NOT_ASKED,
    "/v1/webhooks": "?limit=500",
    "/v1/webhooks/{webhook_id}": "",
    "/v1/webhooks/{webhook_id}/health": "",
    "/v1/webhooks/{webhook_id}/stats": "?hours=744",
    "/v1/webhooks/{webhook_id}/deliveries/summary": "?limit=500",
    "/v1/deliveries": "?limit=500",
    "/v1/deliveries/{delivery_id}": "",
    "/v1/deliveries/{delivery_id}/attempts": "?limit=50",
    "/v1/dead-letters": "?limit=500",
    "/v1/jobs/{job_id}": "",
    "/v1/learners/erasures/{erasure_id}": "",
    "/v1/event-types": "",
    "/v1/source-addresses": "",
    "/v1/events/{event_id}": "",
    "/v1/account/audit": "?limit=500&action=webhook.changed",
    "/v1/sessions/{session_id}": "",
    "/v1/usage": "?months=120",
    "/v1/usage/{month}": "?limit=500",
    "/v1/notifications": "?limit=500",
    "/v1/audit": "?limit=500&action=webhook.changed",
    "/v1/accounts": "?limit=500",
    "/v1/unknown-accounts": "",
    "/v1/account": "",
    "/v1/accounts/{account_id}": "",
    "/v1/accounts/{account_id}/keys": "",
    "/v1/accounts/{account_id}/users": "",
    "/v1/accounts/{account_id}/sessions": "",
    "/": "",
    "/choose-account": "",
    "/webhooks": "",
    "/webhooks/new": "",
    "/webhooks/{webhook_id}": "",
    "/webhooks/{webhook_id}/code": "",
    "/webhooks/{webhook_id}/edit": "",
    "/webhooks/{webhook_id}/delete": "",
    "/webhooks/{webhook_id}/replay": "",
    "/events": "",
    "/events/types": "",
    "/deliveries": "",
    "/deliveries/retry": "?state=dead",
    "/deliveries/{delivery_id}": "",
    "/deliveries/{delivery_id}/payload": "",
    "/dead-letters": "",
    "/dead-letters/preview": "?act=retry&every=1",
    "/jobs/{job_id}": "",
    "/account": "",
    "/account/terminal": "",
    "/account/learners": "",
    "/account/erasures/{erasure_id}": "",
    "/audit": "?action=webhook.changed",
    "/usage": "",
    "/usage/{month}.csv": "",
    "/webhooks/{webhook_id}/deliveries.csv": "",
    "/notifications": "",
    "/operator": "",
    "/operator/stages": "",
}


async def fill(api: ApiFixture) -> dict[str, str]:
    """Store as much as one account may; return the ids of the largest rows."""
    quotes, text = '"' * 1900, "\x01" * 500
    scope = [f"{number:p>128}" for number in range(1000)]
    widest = {"url": f"{URL}?{quotes}", "fallbackUrl": f"{URL}/spare?{quotes}", "description": text}
    scopes = [scope] * (MAX_SCOPE_IDS_PER_ACCOUNT // 2 // len(scope)) + [[]] * WEBHOOKS
    made = [await api.acme.webhook(**widest, packages=ids, dispatches=ids) for ids in scopes[:WEBHOOKS]]
    for number in range(5 * WEBHOOKS):
        changes = {"url": f"{URL}/{number}?{quotes}", "fallbackUrl": f"{URL}/spare-{number}?{quotes}"}
        path = f"/v1/webhooks/{made[number % WEBHOOKS]['id']}"
        await api.acme.patch(path, {**changes, "description": f"{number:\x02>500}"})
    for webhook in made:
        theirs = {"account_id": api.acme.account_id, "webhook_id": webhook["id"]}
        failure = {"outcome": OutcomeKind.SERVER_ERROR, "status": 500, "message": "'" * 1000, "health_epoch": 6}
        for number in range(5):
            at = NOON + timedelta(seconds=number)
            failed = attempt(**theirs, **failure, event_id=f"evt_{number}", started_at=at, ended_at=at)
            letter = dead_letter(delivery=delivery(**theirs, event_id=f"evt_{number}", step=7), message="'" * 1000)
            await api.record(failed, letter)
    theirs = {"account_id": api.acme.account_id, "webhook_id": made[0]["id"], "event_id": "evt_again"}
    answer = {"response_body": b"\x01'" * 2048, "response_headers": {"x": "'" * 4000}}
    await api.record(delivery(**theirs), *(attempt(**theirs, **answer, number=number) for number in range(1, 100)))
    path = f"/v1/accounts/{api.acme.account_id}"
    for number in range(MAX_USERS_PER_ACCOUNT):
        await api.operator.post(f"{path}/users", {"email": f"{number:u>60}@{'d' * 60}.{'e' * 60}.example"})
    for number in range(MAX_KEYS_PER_ACCOUNT - 1):
        await api.operator.post(f"{path}/keys", {"name": f"{number:'>200}", "scopes": ["webhooks:read"]})
    emails = [f"{number:e>100}@{'d' * 60}.{'e' * 60}.example" for number in range(MAX_EMAILS)]
    accounts = SqlAccounts(api.database)
    for number in range(ACCOUNTS):
        account = Account(f"acc_{number}", "'" * MAX_NAME_CHARACTERS, tuple(emails), NOON)
        await accounts.add(account, make_key(f"key_{number}", account.id, "first", f"sk_{number}", NOON).key)
    job = await api.acme.post(f"/v1/webhooks/{made[0]['id']}/retry-waiting")
    erasure = await api.acme.post("/v1/learners/erase", {"learnerId": "someone"})
    session = await api.acme.post("/v1/sessions", {"packageId": "pkg_1", "learnerId": "Ada"})
    return {
        "webhook_id": made[0]["id"],
        "delivery_id": delivery(**theirs).id,
        "event_id": delivery(**theirs).event_id,
        "job_id": job["id"],
        "erasure_id": erasure["id"],
        "session_id": session["sessionId"],
        "account_id": api.acme.account_id,
        "month": "2026-04",
    }


def test_every_get_route_is_in_the_list(api: ApiFixture) -> None:
    found = {route.path for route in walk(api.app.routes) if "GET" in (route.methods or ())}
    assert found == set(ROUTES)


async def test_no_response_is_larger_than_a_megabyte(api: ApiFixture) -> None:
    ids = await fill(api)
    browser, operator = await signed_in(api), FakeBrowser(api)
    await operator.send("/operator/sign-in", key=OPERATOR_KEY)
    sizes: dict[str, int] = {}
    for route, query in ROUTES.items():
        if query == NOT_ASKED:
            continue
        path = route.format(**ids) + query
        is_operators = route.startswith(("/v1/accounts", "/v1/unknown-accounts", "/v1/audit"))
        if route.startswith("/v1/"):
            response = await (api.operator if is_operators else api.acme).request("GET", path)
        else:
            response = (await (operator if route.startswith("/operator") else browser).open(path)).response
        assert response.status_code == 200, (route, response.text[:500])
        sizes[route] = len(response.content)
    assert {route: size for route, size in sizes.items() if size > MAX_BYTES} == {}
    await browser.close()
    await operator.close()


async def test_the_newest_sessions_are_listed(api: ApiFixture) -> None:
    for _ in range(MAX_SESSIONS_LISTED + 1):
        await (await signed_in(api)).close()
    path = f"/v1/accounts/{api.acme.account_id}/sessions"
    listed = await api.operator.get(path)
    assert len(listed) == MAX_SESSIONS_LISTED
    await api.operator.delete(f"{path}/{listed[0]['id']}")
    assert len({one["id"] for one in [*listed, *await api.operator.get(path)]}) == MAX_SESSIONS_LISTED + 1


async def test_all_accounts_are_on_some_page(api: ApiFixture) -> None:
    for number in range(7):
        await api.operator.post("/v1/accounts", {"name": f"{number}"})
    found: list[str] = []
    query = {"limit": "3"}
    while True:
        page = await api.operator.get("/v1/accounts", **query)
        found += [row["name"] for row in page["data"]]
        if "nextCursor" not in page:
            break
        assert len(page["data"]) == 3
        query["cursor"] = page["nextCursor"]
    assert len(found) == len(set(found)) == 9
    assert {str(number) for number in range(7)} < set(found)


async def test_a_list_reads_no_more_than_it_shows(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read in portions until the page is full."""
    monkeypatch.setattr(keyset, "MAX_LIST_BYTES", 1)
    webhook = await api.acme.webhook()
    for number in range(2 * keyset.ROWS_PER_QUERY):
        await api.acme.patch(f"/v1/webhooks/{webhook['id']}", {"description": f"{number}"})
    asked: list[int] = []
    newest_first = keyset.select_newest

    def asking(query: Any, at: Any, name: Any, after: Any, limit: int) -> Any:
        asked.append(limit)
        return newest_first(query, at, name, after, limit)

    monkeypatch.setattr(keyset, "select_newest", asking)
    page = await api.acme.get("/v1/account/audit", limit="500")
    assert (len(page["data"]), asked) == (1, [keyset.ROWS_PER_QUERY])


async def test_short_pages_leave_no_row_out(api: ApiFixture) -> None:
    long = f"{URL}?{'~' * 2000}"
    webhook = await api.acme.webhook(fallbackUrl=f"{URL}/spare")
    for number in range(450):
        await api.acme.patch(f"/v1/webhooks/{webhook['id']}", {"url": f"{long[:-3]}{number:03}"})
    path, query = "/v1/account/audit", {"limit": "500", "action": "webhook.changed"}
    found: list[str] = []
    while True:
        page = await api.acme.get(path, **query)
        found += [row["id"] for row in page["data"]]
        if "nextCursor" not in page:
            break
        assert len(page["data"]) < 450
        query["cursor"] = page["nextCursor"]
    assert len(found) == len(set(found)) == 450
