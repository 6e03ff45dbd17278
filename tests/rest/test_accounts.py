"""A platform engineer creates accounts, and grants and revokes access."""

import pytest

from rest.api_fixture import OTHER_OPERATOR_KEY, ApiClient, ApiFixture, errors_of
from streams.core.accounts.access import digest
from streams.core.limits import MAX_KEYS_LISTED, MAX_KEYS_PER_ACCOUNT, MAX_USERS_PER_ACCOUNT


async def test_a_new_account_has_a_key_with_every_scope(api: ApiFixture) -> None:
    made = await api.operator.post("/v1/accounts", {"name": " Initech ", "emails": ["a@b.example"], "planLimit": 9})
    key = made.pop("apiKey")
    assert made == {
        "id": made["id"],
        "name": "Initech",
        "emails": ["a@b.example"],
        "planLimit": 9,
        "weeklyDigest": True,
        "mutedMails": [],
        "createdAt": "2026-04-10T12:00:00Z",
    }
    assert await api.operator.get(f"/v1/accounts/{made['id']}") == made
    assert made in (await api.operator.get("/v1/accounts"))["data"]
    assert (await ApiClient(api.client, key).webhook())["status"] == "active"
    assert key not in str(await api.operator.get(f"/v1/accounts/{made['id']}/keys"))


async def test_an_account_is_changed_field_by_field(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}"
    changed = await api.operator.patch(path, {"planLimit": 1000, "weeklyDigest": False})
    assert (changed["name"], changed["planLimit"], changed["weeklyDigest"]) == ("acme", 1000, False)
    assert "planLimit" not in await api.operator.patch(path, {"planLimit": None})
    for body, field in (({"emails": ["nobody"]}, "emails"), ({"name": "  "}, "name"), ({"plan": 1}, "plan")):
        assert field in errors_of(await api.operator.request("PATCH", path, body))
    assert (await api.operator.request("PATCH", "/v1/accounts/acc_unknown", {"name": "x"})).status_code == 404


@pytest.mark.parametrize(
    "email",
    [
        "a b@c.example",
        "a@b@c.example",
        "x@",
        "@x",
        "a\r\nBcc: b@c.example",
        "a,b@c.example",
        "=?utf-8?q?=0aB?=@c.example",
        ".a@c.example",
        "a@.c",
        "Ada <a@c.example>",
        '"a b"@c.example',
        "a@[192.0.2.1]",
        "a@localhost",
    ],
)
async def test_an_address_unfit_for_a_mail_header_is_refused(api: ApiFixture, email: str) -> None:
    response = await api.operator.request("POST", "/v1/accounts", {"name": "Initech", "emails": [email]})
    assert "is not an e-mail address: " in errors_of(response)["emails"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ops@ACME.example", "Ops@acme.example"),
        ("jörg@bücher.example", "jörg@bücher.example"),
        ("a@xn--bcher-kva.example", "a@bücher.example"),
        ("用户@例え.jp", "用户@例え.jp"),
    ],
)
async def test_addresses_are_stored_in_one_form(api: ApiFixture, given: str, stored: str) -> None:
    made = await api.operator.post("/v1/accounts", {"name": "Initech", "emails": [given]})
    assert made["emails"] == [stored]


async def test_a_key_has_scopes_and_an_unknown_one_is_named(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    made = await api.operator.post(path, {"name": "export", "scopes": ["deliveries:read"]})
    assert made["scopes"] == ["deliveries:read"]
    assert made["apiKey"].startswith("sk_")
    for body, field in (
        ({"name": "x", "scopes": ["everything"]}, "scopes[0]"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["webhooks:read"], "expiresAt": "2026-04-10T11:00:00Z"}, "expiresAt"),
        ({"name": "x", "scopes": ["webhooks:read"], "expiresAt": "9999-12-31T23:59:59Z"}, "expiresAt"),
    ):
        assert field in errors_of(await api.operator.request("POST", path, body))
    assert (await api.operator.request("DELETE", f"{path}/key_unknown")).status_code == 404
    elsewhere = f"/v1/accounts/{api.globex.account_id}/keys/{made['id']}"
    assert (await api.operator.request("DELETE", elsewhere)).status_code == 404


async def test_a_key_shows_its_account(api: ApiFixture) -> None:
    assert await api.acme.get("/v1/account") == {"id": api.acme.account_id, "name": "acme"}


async def test_operators_see_the_audit_log_of_one_account(api: ApiFixture) -> None:
    [opened] = (await api.operator.get("/v1/audit", accountId=api.globex.account_id))["data"]
    assert (opened["accountId"], opened["action"]) == (api.globex.account_id, "account.opened")


async def test_operators_see_the_audit_log_of_all_accounts(api: ApiFixture) -> None:
    await api.acme.webhook()
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    made = await api.operator.post(path, {"name": "short", "scopes": ["webhooks:read"]})
    await api.operator.delete(f"{path}/{made['id']}")
    await api.operator.delete(f"{path}/{made['id']}")
    audit_trail = (await api.operator.get("/v1/audit"))["data"]
    actions = [(audit_entry["actor"].partition(":")[0], audit_entry["action"]) for audit_entry in audit_trail]
    assert actions == [
        ("operator", "key.revoked"),
        ("operator", "key.created"),
        ("key", "webhook.created"),
        ("test", "account.opened"),
        ("test", "account.opened"),
    ]
    assert made["apiKey"] not in str(audit_trail)


async def test_two_operators_are_two_actors(api: ApiFixture) -> None:
    other = ApiClient(api.client, OTHER_OPERATOR_KEY)
    await api.operator.post("/v1/accounts", {"name": "first"})
    await other.post("/v1/accounts", {"name": "second"})
    audit_trail = (await api.operator.get("/v1/audit"))["data"]
    assert [audit_entry["actor"] for audit_entry in audit_trail[:2]] == [
        f"operator:{digest(OTHER_OPERATOR_KEY)[:8]}",
        "operator:ada",
    ]


async def test_operators_do_not_share_idempotency_keys(api: ApiFixture) -> None:
    other, headers = ApiClient(api.client, OTHER_OPERATOR_KEY), {"Idempotency-Key": "open"}
    first = await api.operator.request("POST", "/v1/accounts", {"name": "Acme"}, headers=headers)
    second = await other.request("POST", "/v1/accounts", {"name": "Acme"}, headers=headers)
    again = await api.operator.request("POST", "/v1/accounts", {"name": "Acme"}, headers=headers)
    assert first.json()["id"] != second.json()["id"]
    assert again.json() == first.json()


async def test_an_account_has_200_users_at_most(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/users"
    for number in range(MAX_USERS_PER_ACCOUNT):
        await api.operator.post(path, {"email": f"user-{number}@acme.example"})
    refused = await api.operator.request("POST", path, {"email": "more@acme.example"})
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems#conflict")
    assert "has 200 users, and may have at most 200: remove one first" in refused.json()["detail"]
    # Who exists already is no further user.
    first, *_ = await api.operator.get(path)
    assert (await api.operator.post(path, {"email": first["email"]}))["id"] == first["id"]
    await api.operator.delete(f"{path}/{first['id']}")
    await api.operator.post(path, {"email": "more@acme.example"})


async def test_an_account_has_100_active_keys_at_most(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    new = {"name": "export", "scopes": ["webhooks:read"]}
    [first] = await api.operator.get(path)
    soon = await api.operator.post(path, {**new, "expiresAt": "2026-04-10T13:00:00Z"})
    for _ in range(MAX_KEYS_PER_ACCOUNT - 2):
        await api.operator.post(path, new)
    refused = await api.operator.request("POST", path, new)
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems#conflict")
    assert "has 100 API keys, and may have at most 100: revoke one first" in refused.json()["detail"]
    api.clock.advance(3600)
    # One has expired. Each revoked one makes room for another.
    for _ in range(MAX_KEYS_LISTED):
        made = await api.operator.post(path, new)
        await api.operator.delete(f"{path}/{made['id']}")
    keys = await api.operator.get(path)
    assert len(keys) == MAX_KEYS_LISTED
    assert first["id"] in [key["id"] for key in keys]
    assert soon["id"] not in [key["id"] for key in keys]
