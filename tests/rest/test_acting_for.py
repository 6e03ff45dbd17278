"""An operator's key acts for the account that a header names."""

from dataclasses import replace

import pytest

from rest.api_fixture import URL, ApiClient, ApiFixture, errors_of
from streams.core.accounts.access import ACCOUNT_HEADER, ALL_ACCOUNTS


async def test_an_operator_acts_for_an_account(api: ApiFixture) -> None:
    made = await api.operator_for(api.acme.account_id).webhook()
    assert made["accountId"] == api.acme.account_id
    path = f"/v1/webhooks/{made['id']}"
    assert (await api.operator_for(api.acme.account_id).get(path))["id"] == made["id"]
    assert (await api.operator_for(api.globex.account_id).request("GET", path)).status_code == 404
    [entry] = (await api.acme.get("/v1/account/audit", action="webhook.created"))["data"]
    assert entry["actor"] == "operator:ada"


async def test_a_refused_operator_learns_of_the_header(api: ApiFixture) -> None:
    refused = await api.operator.request("GET", "/v1/webhooks")
    assert (refused.status_code, ACCOUNT_HEADER in refused.json()["detail"]) == (403, True)
    refused = await replace(api.acme, acts_for=api.acme.account_id).request("GET", "/v1/webhooks")
    assert (refused.status_code, ACCOUNT_HEADER in refused.json()["detail"]) == (403, True)


@pytest.mark.parametrize("account_id", ["acc_unknown", "", "../x", "a" * 5000])
async def test_an_unknown_account_is_not_found(api: ApiFixture, account_id: str) -> None:
    for path in ("/v1/webhooks", "/v1/account"):
        assert (await api.operator_for(account_id).request("GET", path)).status_code == 404


async def test_a_wrong_key_learns_nothing_of_accounts(api: ApiFixture) -> None:
    for account_id in (api.acme.account_id, "acc_unknown", ALL_ACCOUNTS):
        wrong = ApiClient(api.client, "sk_wrong", acts_for=account_id)
        assert (await wrong.request("GET", "/v1/webhooks")).status_code == 401


async def test_for_all_accounts_things_are_found_by_id(api: ApiFixture) -> None:
    everywhere = api.operator_for(ALL_ACCOUNTS)
    for client in (api.acme, api.globex):
        made = await client.webhook()
        assert (await everywhere.get(f"/v1/webhooks/{made['id']}"))["accountId"] == client.account_id
    refused = await everywhere.request("POST", "/v1/webhooks", {"url": URL})
    assert errors_of(refused).keys() == {ACCOUNT_HEADER}


async def test_accounts_share_no_idempotency_key(api: ApiFixture) -> None:
    for account_id in (api.acme.account_id, api.globex.account_id):
        made = await api.operator_for(account_id).request(
            "POST", "/v1/webhooks", {"url": URL}, headers={"Idempotency-Key": "1"}
        )
        assert made.json()["accountId"] == account_id


async def test_an_event_is_published_for_the_named_account(api: ApiFixture) -> None:
    event = {"type": "package.updated", "createdAt": "2026-04-10T14:32:00Z", "data": {"packageId": "p", "version": "2"}}
    operator = api.operator_for(api.acme.account_id)
    assert (await operator.request("POST", "/v1/events", event)).status_code == 202
    other = {**event, "accountId": api.globex.account_id}
    assert errors_of(await operator.request("POST", "/v1/events", other)).keys() == {"accountId"}


async def test_a_customer_uses_up_no_request_of_an_operator(api: ApiFixture) -> None:
    first = await api.acme.request("GET", "/v1/account")
    await api.acme.request("GET", "/v1/account")
    operators = await api.operator_for(api.acme.account_id).request("GET", "/v1/account")
    assert operators.headers["RateLimit-Remaining"] == first.headers["RateLimit-Remaining"]


async def test_an_outage_of_the_database_stops_no_known_account(api: ApiFixture) -> None:
    operator = api.operator_for(api.acme.account_id)
    event = {"type": "package.updated", "createdAt": "2026-04-10T14:32:00Z", "data": {"packageId": "p", "version": "2"}}
    await operator.post("/v1/events", event)
    with api.database_away():
        assert (await operator.request("POST", "/v1/events", event)).status_code == 202


async def test_a_link_opens_the_operators_pages(api: ApiFixture) -> None:
    link = await api.operator.post("/v1/operators/sign-in-links")
    assert link["url"].startswith("https://")
    [entry] = (await api.operator.get("/v1/audit", action="operator.sign_in_link_made"))["data"]
    assert entry["actor"] == "operator:ada"
