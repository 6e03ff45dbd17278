"""An integrator sees whether anybody wants an event, and events of unknown accounts are refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from builders import EXAMPLE
from rest.api_fixture import URL, ApiFixture, errors_of
from rest.test_events import COMPLETED, published
from streams.adapters.sql import account_webhooks
from streams.services.access import KNOWN_FOR


async def test_an_answer_counts_the_webhooks_that_want_each_event(office: ApiFixture) -> None:
    await office.acme.webhook()
    await office.acme.webhook(events=["session.launched"])
    await office.acme.webhook(packages=["pkg_other"])
    paused = await office.acme.webhook(packages=[EXAMPLE["packageId"]])
    await office.acme.post(f"/v1/webhooks/{paused['id']}/pause")
    deleted = await office.acme.webhook()
    await office.acme.delete(f"/v1/webhooks/{deleted['id']}")
    await office.globex.webhook()
    updated = {**COMPLETED, "type": "package.updated", "data": {"packageId": "pkg_other", "version": "2"}}
    response = await office.acme.post("/v1/events", {"events": [COMPLETED, updated]})
    assert [one["webhooks"] for one in response["events"]] == [2, 2]
    assert [one["id"] for one in response["events"]] == response["ids"]


@pytest.fixture
def queries(office: ApiFixture) -> Iterator[list[str]]:
    made: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "FROM webhooks" in statement and "account_id IN" in statement:
            made.append(statement)

    engine = office.database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield made
    event.remove(engine, "before_cursor_execute", note)


async def test_a_request_asks_the_database_once(office: ApiFixture, queries: list[str]) -> None:
    accounts = [office.acme.account_id, office.globex.account_id]
    events = [{**COMPLETED, "accountId": accounts[number % 2]} for number in range(100)]
    await office.operator.post("/v1/events", {"events": events})
    assert len(queries) == 1


async def test_an_event_with_too_many_scopes_is_taken_uncounted(
    office: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_webhooks, "MOST_SCOPE_CHARACTERS", 100)
    await office.acme.webhook(packages=[f"pkg_{number}" for number in range(100)])
    response = await office.acme.post("/v1/events", COMPLETED)
    assert response["events"] == [{"id": response["ids"][0]}]
    assert len(published(office)) == 1
    unknown = await office.operator.ask("POST", "/v1/events", {**COMPLETED, "accountId": "acme"})
    assert unknown.status_code == 422


async def test_an_unknown_account_is_named_and_nothing_is_taken(office: ApiFixture) -> None:
    known = {**COMPLETED, "accountId": office.acme.account_id}
    response = await office.operator.ask("POST", "/v1/events", {"events": [known, {**COMPLETED, "accountId": "acme"}]})
    assert response.status_code == 422
    assert "there is no account acme" in errors_of(response)["events[1].accountId"]
    assert published(office) == []


# -- without the database --------------------------------------------------------------------------------------


async def test_an_operators_event_is_taken_without_the_database(office: ApiFixture) -> None:
    with office.database_away():
        response = await office.operator.ask("POST", "/v1/events", {**COMPLETED, "accountId": office.acme.account_id})
    assert response.status_code == 202
    assert response.json()["events"] == [{"id": response.json()["ids"][0]}]
    assert len(published(office)) == 1


async def test_a_recent_key_publishes_without_the_database(office: ApiFixture) -> None:
    await office.acme.get("/v1/webhooks")
    with office.database_away():
        assert (await office.acme.ask("POST", "/v1/events", COMPLETED)).status_code == 202
        assert (await office.globex.ask("POST", "/v1/events", COMPLETED)).status_code == 503
        assert (await office.acme.ask("GET", "/v1/webhooks")).status_code == 503
        office.clock.advance(KNOWN_FOR.total_seconds() + 1)
        assert (await office.acme.ask("POST", "/v1/events", COMPLETED)).status_code == 503


async def test_a_revoked_key_is_forgotten_at_once(office: ApiFixture) -> None:
    path = f"/v1/accounts/{office.acme.account_id}/keys"
    [key] = await office.operator.get(path)
    await office.acme.get("/v1/webhooks")
    await office.operator.delete(f"{path}/{key['id']}")
    with office.database_away():
        assert (await office.acme.ask("POST", "/v1/events", COMPLETED)).status_code == 503
    assert (await office.acme.ask("POST", "/v1/events", COMPLETED)).status_code == 401


async def test_a_repetition_without_the_database_has_the_same_id(office: ApiFixture) -> None:
    headers = {"Idempotency-Key": "order-7"}
    await office.acme.get("/v1/webhooks")
    with office.database_away():
        first = await office.acme.ask("POST", "/v1/events", COMPLETED, headers=headers)
        again = await office.acme.ask("POST", "/v1/events", COMPLETED, headers=headers)
        other = await office.acme.ask("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    later = await office.acme.ask("POST", "/v1/events", COMPLETED, headers=headers)
    assert [response.status_code for response in (first, again, later, other)] == [202, 202, 202, 503]
    assert first.json()["ids"] == again.json()["ids"] == later.json()["ids"]
