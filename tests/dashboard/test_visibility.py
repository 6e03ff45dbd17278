"""Nobody sees a URL's query or a secret that the registry hides: each page, response, export, mail and log line."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio
from dashboard.pages import FakeBrowser, signed_in
from dashboard.test_page_permissions import NEEDS as PAGES
from dashboard.test_page_permissions import OPEN

from builders import NOON, attempt, dead_letter, delivery
from fakes import FakeIdentityProvider
from rest.api_fixture import OPERATOR_KEY, ApiClient, ApiFixture, open_api
from rest.test_permissions import NEEDS as ROUTES
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.core.accounts.access import OPERATOR, PERMISSIONS, Role, Scope
from streams.core.deliveries.outcome import OutcomeKind
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose

# By text such a URL is none: only its field says what it is.
URL = "HTTPS://crm.example.com/hooks?key=marker-url"
URLS = {"url": URL, "fallbackUrl": "https://crm.example.com/late?key=marker-fallback"}
HEADERS = {"headers": {"X-Key": "marker-header"}, "fallbackHeaders": {"X-Key": "marker-late-header"}}
SETTINGS = {
    "SMTP_URL": "smtp://user:marker-smtp@mail.example.com",
    "SCHEMA_REGISTRY_URL": "https://user:marker-registry@registry.example.com",
    "KAFKA_CONFIG_SASL_PASSWORD": "marker-kafka",
    "SCORM_WEBHOOKS_OIDC_ISSUER": "https://login.example.com",
    "SCORM_WEBHOOKS_OIDC_CLIENT_ID": "webhooks",
    "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET": "marker-client",
}
BY_ROLE = ("marker-url", "marker-fallback", "marker-old-url", "marker-request", "marker-response", "marker-body")
HIDDEN = ("smtp", "registry", "kafka", "client", "database")
OPEN_PATHS = ("/healthz", "/readyz", "/docs", "/openapi.json", "/sign-in", "/operator/sign-in")


@dataclass
class Walk:
    """An account with a marker in each field that holds a URL or a secret; `secrets` are those that we make."""

    api: ApiFixture
    ids: Mapping[str, str]
    secrets: Sequence[str]
    shown: list[tuple[str, str]] = field(default_factory=list)

    async def as_(self, role: Role) -> None:
        """Open each page, and call each route that reads, as this role."""
        browser = await signed_in(self.api, role)
        reader = await self.api.with_scopes(self.api.acme.account_id, *(PERMISSIONS[role] & {*Scope}))
        for route, needed in {**PAGES, **ROUTES}.items():
            method, path = route.split(" ")
            acts = method != "GET" and (needed == OPEN or role is not Role.VIEWER)
            if needed == OPERATOR or acts:
                continue
            path = path.format(**self.ids)
            client = reader if path.startswith("/v1/") else ApiClient(browser.client)
            await self.look(client, method, path)
        for path in ("/webhooks?new=1", "/deliveries?webhook=" + self.ids["webhook_id"], *OPEN_PATHS):
            await self.look(ApiClient(browser.client), "GET", path)
        await browser.close()

    async def look(self, client: ApiClient, method: str, path: str) -> None:
        headers = {"sec-fetch-site": "same-origin"}
        response = await client.request(method, path, headers=headers, follow_redirects=False)
        self.shown.append((f"{method} {path}", f"{response.headers} {response.text}"))

    def found(self, *markers: str) -> list[tuple[str, str]]:
        return [(where, marker) for where, text in self.shown for marker in markers if marker in text]


@pytest_asyncio.fixture
async def walk(tmp_path: Path) -> AsyncIterator[Walk]:
    url = f"sqlite:///{tmp_path}/marker-database.sqlite"
    async with open_api(url, settings=SETTINGS, provider=FakeIdentityProvider()) as api:
        yield await filled(api)


async def filled(api: ApiFixture) -> Walk:
    made = await api.acme.webhook(url="https://crm.example.com/?key=marker-old-url", description="CRM")
    path, mine = f"/v1/webhooks/{made['id']}", {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await api.acme.patch(path, {**URLS, **HEADERS, "description": ""})
    rotated = await api.acme.post(f"{path}/secret/rotate")
    known, job = await failures(api, mine), await api.acme.post("/v1/dead-letters/retry", {"filter": {}})
    session = await api.acme.post("/v1/sessions", {"packageId": "pkg_1", "learnerId": "Ada"})
    accounts = f"/v1/accounts/{api.acme.account_id}"
    user = await api.operator.post(f"{accounts}/users", {"email": "ada@acme.example"})
    key = await api.operator.post(f"{accounts}/keys", {"name": "export", "scopes": ["webhooks:read"]})
    links = [
        await api.operator.post(f"{accounts}/portal-links", {"returnUrl": "https://lms.example.com/?marker-return"}),
        await api.operator.post(f"{accounts}/users/{user['id']}/sign-in-links"),
    ]
    other = FakeBrowser(api)
    await other.send(links[0]["url"].removeprefix("https://hooks.example.com"))
    await other.close()
    ids = {
        "webhook_id": made["id"],
        "delivery_id": known,
        "event_id": "evt_1",
        "job_id": job["id"],
        "session_id": session["sessionId"],
        "key_id": key["id"],
        "user_id": user["id"],
        "month": "2026-04",
        "account_id": api.acme.account_id,
        "erasure_id": "ers_1",
        "token": "t",
        "version": "v",
        "name": "style.css",
    }
    tokens = [session["commitUrl"], *(link["url"] for link in links)]
    keys = [made["secret"], rotated["secret"], key["apiKey"], api.acme.key or "", OPERATOR_KEY]
    return Walk(api, ids, [*keys, *(one.rpartition("/")[2] for one in tokens)])


async def failures(api: ApiFixture, mine: Mapping[str, str]) -> str:
    """Five failed attempts, which pause the webhook, and a dead letter: each owes a mail."""
    more: dict[str, Any] = {"request_headers": {"x-a": "marker-request"}, "response_headers": {"x": "marker-response"}}
    for number in range(1, 6):
        at = NOON + timedelta(seconds=number)
        failed = attempt(
            **mine,
            **more,
            event_id=f"evt_{number}",
            outcome=OutcomeKind.SERVER_ERROR,
            status=500,
            health_epoch=2,
            url=URL,
            response_body=b"marker-body",
            started_at=at,
            ended_at=at,
        )
        await api.record(delivery(**mine, event_id=f"evt_{number}"), failed)
    letter = dead_letter(delivery=delivery(**mine, event_id="evt_dead"))
    await api.record(letter)
    api.clock.advance(2 * 86_400)
    await SqlMails(api.database, OutgoingEventWriter(AvroCodec())).enqueue_reminders(api.clock.now())
    return delivery(**mine, event_id="evt_1").id


async def test_a_viewer_sees_no_query_and_no_secret(walk: Walk) -> None:
    await walk.as_(Role.VIEWER)
    assert walk.found("marker-", *walk.secrets) == []


async def test_an_owner_sees_whole_urls_and_no_stored_secret(walk: Walk) -> None:
    await walk.as_(Role.OWNER)
    assert {marker for _, marker in walk.found(*BY_ROLE)} == {*BY_ROLE}
    hidden = ("marker-header", "marker-late-header", "marker-return", *(f"marker-{name}" for name in HIDDEN))
    assert walk.found(*hidden, *walk.secrets) == []


async def test_an_operator_sees_no_secret(walk: Walk) -> None:
    browser = FakeBrowser(walk.api)
    await browser.send("/operator/sign-in", key=OPERATOR_KEY)
    for path in ("/operator", "/operator/stages", *OPEN_PATHS):
        await walk.look(ApiClient(browser.client), "GET", path)
    await browser.close()
    for route in (route for route, needed in ROUTES.items() if needed == OPERATOR and route.startswith("GET")):
        await walk.look(walk.api.operator, "GET", route.removeprefix("GET ").format(**walk.ids))
    assert walk.found("marker-header", *(f"marker-{name}" for name in HIDDEN), *walk.secrets) == []


async def test_a_mail_has_no_query_of_a_url(walk: Walk) -> None:
    page = await SqlMails(walk.api.database, OutgoingEventWriter(AvroCodec())).list(walk.api.acme.account_id, None, 10)
    letters = [compose(mail, "https://hooks.example.com") for mail in page.rows]
    assert {mail.kind for mail in page.rows} == {"paused", "dead_letters"}
    for letter in letters:
        assert "crm.example.com/hooks" in letter.subject.lower()
        assert "marker-" not in letter.subject + letter.text + letter.html


async def test_a_log_line_has_no_url_and_no_secret(walk: Walk) -> None:
    for role in Role:
        await walk.as_(role)
    logged = f"{walk.api.telemetry.logged} {[vars(span) for span in walk.api.telemetry.spans]}"
    assert "request_handled" in logged
    assert [marker for marker in ("marker-", *walk.secrets) if marker in logged] == []
