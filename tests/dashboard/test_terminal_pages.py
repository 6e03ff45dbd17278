"""A member connects a terminal by a key that soon expires, and an owner removes keys that have ended."""

import re
import shlex
from datetime import timedelta
from html import unescape

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in

from rest.api_fixture import PUBLIC_URL, ApiClient, ApiFixture
from streams.core.limits import MAX_KEYS_PER_ACCOUNT, MAX_TERMINALS_PER_ACCOUNT, MAX_TERMINALS_PER_PERSON

PATH = "/account/terminal"


def command_of(page: Page, element: str = "command") -> list[str]:
    """The words of a command on a page, as a shell reads them."""
    [command] = re.findall(rf'<pre id="{element}"[^>]*>(.*?)</pre>', page.html, re.DOTALL)
    return shlex.split(unescape(command).replace("\\\n", ""))


def key_of(page: Page) -> str:
    return command_of(page)[1].removeprefix("SCORM_WEBHOOKS_API_KEY=")


async def user(api: ApiFixture, email: str, role: str = "member") -> tuple[FakeBrowser, str]:
    """A browser of a new user of acme, and the user's id."""
    path = f"/v1/accounts/{api.acme.account_id}/users"
    made = await api.operator.post(path, {"email": email, "role": role})
    link = await api.operator.post(f"{path}/{made['id']}/sign-in-links")
    browser = FakeBrowser(api)
    await browser.send(link["url"].removeprefix(PUBLIC_URL))
    return browser, made["id"]


async def test_a_member_connects_a_terminal_for_12_hours(api: ApiFixture) -> None:
    member, _ = await user(api, "ada@acme.example")
    page = await member.confirm(await member.open(PATH))
    words = command_of(page)
    assert words[0] == f"SCORM_WEBHOOKS_API_URL={PUBLIC_URL}"
    assert words[2:] == ["scorm-webhooks", "listen", "--forward-to", "http://localhost:3000/hook"]
    assert command_of(page, "trigger") == [*words[:3], "trigger", "session.completed", "--passed"]
    assert command_of(page, "login") == ["scorm-webhooks", "login", PUBLIC_URL]
    assert f'<code id="key" class="break">{key_of(page)}</code>' in page.html
    assert page.response.headers["cache-control"] == "no-store"
    assert "content-encoding" not in page.response.headers
    client = ApiClient(api.client, key_of(page))
    assert (await client.webhook())["status"] == "active"
    event = {"type": "session.launched", "createdAt": "2026-04-10T12:00:00Z", "data": {}}
    assert (await client.request("POST", "/v1/events", event)).status_code == 403
    keys = await api.operator.get(f"/v1/accounts/{api.acme.account_id}/keys")
    [key] = [key for key in keys if "expiresAt" in key]
    assert (key["name"], key["expiresAt"]) == ("Terminal of ada@acme.example", "2026-04-11T00:00:00Z")
    assert key["scopes"] == ["deliveries:read", "deliveries:write", "webhooks:read", "webhooks:write"]
    # The key is shown once.
    assert key_of(page) not in (await member.open(PATH)).html
    entries = (await api.acme.get("/v1/account/audit"))["data"]
    [made] = [entry for entry in entries if entry["action"] == "key.created" and entry["objectId"] == key["id"]]
    assert made["details"]["expiresAt"] == "2026-04-11T00:00:00Z"
    assert key_of(page) not in str(entries)
    assert key_of(page) not in str(api.telemetry.logged)
    api.clock.advance(12 * 60 * 60)
    assert (await client.request("GET", "/v1/webhooks")).status_code == 401
    await member.close()


async def test_a_form_that_is_sent_twice_makes_one_key(api: ApiFixture, browser: FakeBrowser) -> None:
    form = await browser.open(PATH)
    assert (await browser.confirm(form)).status == 200
    again = await browser.confirm(form)
    assert again.status == 409
    assert "its secret was shown then" in again.text
    assert (await browser.open(PATH)).html.count(f'action="{PATH}/key_') == 1


async def test_a_viewer_sees_why_not(api: ApiFixture) -> None:
    viewer = await signed_in(api, "viewer")
    page = await viewer.open(PATH)
    assert page.status == 200
    assert "Your role, viewer, may not connect a terminal" in page.text
    assert "<button" not in page.html.partition('<section id="connect">')[2].partition("</section>")[0]
    assert (await viewer.send(PATH)).status == 403
    await viewer.close()


async def test_a_person_has_three_terminals_at_most(api: ApiFixture) -> None:
    ada, _ = await user(api, "ada@acme.example")
    ben, _ = await user(api, "ben@acme.example")
    for _ in range(MAX_TERMINALS_PER_PERSON):
        await ada.send(PATH)
    refused = await ada.send(PATH)
    assert refused.status == 409
    assert "You have 3 connected terminals, and may have at most 3: disconnect one first." in refused.text
    assert "Your terminals" not in (await ben.open(PATH)).text
    page = await ada.open(PATH)
    disconnect = re.findall(rf'action="({PATH}/key_[^"]*)"', page.html)
    assert len(disconnect) == MAX_TERMINALS_PER_PERSON
    # Nobody else's terminal is disconnected.
    assert (await ben.send(disconnect[0])).status == 404
    assert len(re.findall(rf'action="{PATH}/key_', (await ada.send(disconnect[0])).html)) == 2
    assert command_of(await ada.send(PATH))
    await ada.close()
    await ben.close()


async def test_terminals_leave_keys_to_owners(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.features.shared.accounts.MAX_TERMINALS_PER_ACCOUNT", 2)
    assert MAX_TERMINALS_PER_ACCOUNT * 2 == MAX_KEYS_PER_ACCOUNT
    ada, _ = await user(api, "ada@acme.example")
    ben, _ = await user(api, "ben@acme.example")
    await ada.send(PATH)
    await ben.send(PATH)
    refused = await ben.send(PATH)
    assert refused.status == 409
    assert "The account has 2 connected terminals, and may have at most 2" in refused.text
    keys = f"/v1/accounts/{api.acme.account_id}/keys"
    await api.operator.post(keys, {"name": "export", "scopes": ["webhooks:read"]})
    # Expired ones do not count.
    api.clock.advance(11 * 60 * 60)
    await ada.open("/")
    await ben.open("/")
    api.clock.advance(60 * 60)
    assert command_of(await ben.send(PATH))
    await ada.close()
    await ben.close()


@pytest.mark.parametrize("act", ["removed", "viewer"])
async def test_a_terminal_ends_with_its_person(api: ApiFixture, browser: FakeBrowser, act: str) -> None:
    member, user_id = await user(api, "ada@acme.example")
    other = key_of(await browser.send(PATH))
    key = key_of(await member.send(PATH))
    client = ApiClient(api.client, key)
    assert (await client.request("GET", "/v1/webhooks")).status_code == 200
    if act == "removed":
        await browser.send(f"/account/users/{user_id}/remove")
    else:
        await browser.send(f"/account/users/{user_id}/role", role=act)
    assert (await client.request("GET", "/v1/webhooks")).status_code == 401
    assert (await ApiClient(api.client, other).request("GET", "/v1/webhooks")).status_code == 200
    await member.close()


async def test_an_owner_removes_a_key_that_has_ended(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    soon = (api.clock.now() + timedelta(hours=1)).isoformat()
    made = await api.operator.post(path, {"name": "export", "scopes": ["webhooks:read"], "expiresAt": soon})
    remove = f"/account/keys/{made['id']}/remove"
    refused = await browser.send(remove)
    assert refused.status == 409
    assert "is active: revoke it first" in refused.text
    assert remove not in (await browser.open("/account")).html
    api.clock.advance(3600)
    page = await browser.open("/account")
    assert "expired 0 s ago" in page.text
    assert remove in page.html
    assert "export" not in (await browser.send(remove)).text.partition("API keys")[2].partition("Make a key")[0]
    assert made["id"] not in [key["id"] for key in await api.operator.get(path)]
    assert (await browser.send(remove)).status == 404
    assert "key.removed" in [entry["action"] for entry in (await api.acme.get("/v1/account/audit"))["data"]]
