"""A response counts the webhooks that match an event; events of unknown accounts are refused."""

from collections.abc import Collection, Iterator
from typing import Any

import pytest
from sqlalchemy import event

import builders
from builders import EXAMPLE
from fakes import FakeClock
from rest.api_fixture import URL, ApiFixture, errors_of
from rest.test_events import COMPLETED, published
from streams.features.accounts.access import OFFLINE_KEY_SECONDS
from streams.features.events.recipients import RecipientService
from streams.features.events.storage import SqlAccountWebhooks


async def test_a_response_counts_the_webhooks_for_each_event(api: ApiFixture) -> None:
    await api.acme.webhook()
    await api.acme.webhook(events=["session.launched"])
    await api.acme.webhook(packages=["pkg_other"])
    paused = await api.acme.webhook(packages=[EXAMPLE["packageId"]])
    await api.acme.post(f"/v1/webhooks/{paused['id']}/pause")
    deleted = await api.acme.webhook()
    await api.acme.delete(f"/v1/webhooks/{deleted['id']}")
    await api.globex.webhook()
    updated = {**COMPLETED, "type": "package.updated", "data": {"packageId": "pkg_other", "version": "2"}}
    response = await api.acme.post("/v1/events?count=true", {"events": [COMPLETED, updated]})
    assert [one["webhooks"] for one in response["events"]] == [2, 2]
    assert [one["id"] for one in response["events"]] == response["ids"]


@pytest.fixture
def queries(api: ApiFixture) -> Iterator[list[str]]:
    made: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "FROM webhooks" in statement and "account_id IN" in statement:
            made.append(statement)

    engine = api.database._read_engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    yield made
    event.remove(engine, "before_cursor_execute", record)


async def test_a_count_queries_the_database_once(api: ApiFixture, queries: list[str]) -> None:
    accounts = [api.acme.account_id, api.globex.account_id]
    events = [{**COMPLETED, "accountId": accounts[number % 2]} for number in range(100)]
    await api.operator.post("/v1/events?count=true", {"events": events})
    assert len(queries) == 1


class CountedAccounts(SqlAccountWebhooks):
    """Every account exists."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def existing_accounts(self, account_ids: Collection[str]) -> Collection[str]:
        self.asked += account_ids
        return account_ids


async def test_an_account_that_exists_is_looked_up_every_ten_minutes() -> None:
    accounts, clock = CountedAccounts(), FakeClock()
    recipients = RecipientService(accounts, lambda: clock.now().timestamp())
    for seconds in (0, 599, 2):
        clock.advance(seconds)
        await recipients.require_accounts([builders.event()], ["accountId"])
    assert accounts.asked == ["acme", "acme"]


async def test_an_event_with_too_many_scopes_is_not_counted(api: ApiFixture) -> None:
    api.app.state.services.recipients._webhooks = SqlAccountWebhooks(api.database, max_scope_and_filter_characters=100)
    await api.acme.webhook(packages=[f"pkg_{number}" for number in range(100)])
    response = await api.acme.post("/v1/events?count=true", COMPLETED)
    assert response["events"] == [{"id": response["ids"][0]}]
    assert len(published(api)) == 1
    unknown = await api.operator.request("POST", "/v1/events", {**COMPLETED, "accountId": "acme"})
    assert unknown.status_code == 422


async def test_an_unknown_account_refuses_the_whole_batch(api: ApiFixture) -> None:
    known = {**COMPLETED, "accountId": api.acme.account_id}
    response = await api.operator.request("POST", "/v1/events", {"events": [known, {**COMPLETED, "accountId": "acme"}]})
    assert response.status_code == 422
    assert "there is no account acme" in errors_of(response)["events[1].accountId"]
    assert published(api) == []


# -- without the database --------------------------------------------------------------------------------------


async def test_an_operators_event_is_accepted_without_the_database(api: ApiFixture) -> None:
    with api.database_away():
        response = await api.operator.request("POST", "/v1/events", {**COMPLETED, "accountId": api.acme.account_id})
    assert response.status_code == 202
    assert response.json()["events"] == [{"id": response.json()["ids"][0]}]
    assert len(published(api)) == 1


async def test_a_recent_key_publishes_without_the_database(api: ApiFixture) -> None:
    await api.acme.get("/v1/webhooks")
    with api.database_away():
        assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 202
        assert (await api.globex.request("POST", "/v1/events", COMPLETED)).status_code == 503
        assert (await api.acme.request("GET", "/v1/webhooks")).status_code == 503
        api.clock.advance(OFFLINE_KEY_SECONDS + 1)
        assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 503


async def test_a_revoked_key_is_forgotten_at_once(api: ApiFixture) -> None:
    path = f"/v1/accounts/{api.acme.account_id}/keys"
    [key] = await api.operator.get(path)
    await api.acme.get("/v1/webhooks")
    await api.operator.delete(f"{path}/{key['id']}")
    with api.database_away():
        assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 503
    assert (await api.acme.request("POST", "/v1/events", COMPLETED)).status_code == 401


async def test_a_repetition_without_the_database_has_the_same_id(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "order-7"}
    await api.acme.get("/v1/webhooks")
    with api.database_away():
        first = await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers)
        again = await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers)
        other = await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    later = await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers)
    assert [response.status_code for response in (first, again, later, other)] == [202, 202, 202, 503]
    assert first.json()["ids"] == again.json()["ids"] == later.json()["ids"]
