"""An event is found by its deliveries, or on the topic with the webhooks that want it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from ulid import ULID

from builders import NOON, delivery, event, webhook
from fakes import FakeClock, FakeKafka
from fakes.history import FakeEventHistory
from rest.api_fixture import ApiFixture, errors_of
from streams.adapters.avro.codec import AvroCodec
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.core.errors import NotFound
from streams.core.events.event import Event
from streams.core.page import Page
from streams.core.queues.request_class import RequestClass
from streams.core.webhooks.webhook import MismatchReason, Webhook
from streams.features.events import search as event_search
from streams.features.events.search import EventSearchService
from streams.features.shared import event_scan
from streams.ports.kafka import Outgoing
from streams.request_owner import RequestOwner, work_for
from streams.topics import SESSION_EVENTS

CODEC = AvroCodec()
ULID_OF_NOON = f"evt_{ULID.from_datetime(NOON)}"


class SearchFixture:
    """A topic, deliveries and webhooks in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.history = FakeEventHistory(self.kafka)
        self.rows: list[DeliveryState] = []
        self.webhooks: Sequence[Webhook] | None = [webhook()]
        self.accounts = {"acme"}
        self.service = EventSearchService(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda: self.history,
            CODEC,
            self.clock,
        )

    async def list(self, wanted: DeliveryFilter) -> Page[DeliveryState]:
        assert (wanted.account_id, wanted.event_id) == ("acme", "evt_1")
        return Page(self.rows, None)

    async def webhooks_taking(self, *_: object) -> dict[str, Sequence[Webhook]] | None:
        return None if self.webhooks is None else {"acme": self.webhooks}

    async def existing_accounts(self, account_ids: Sequence[str]) -> set[str]:
        return set(account_ids) & self.accounts

    def publish(self, **changes: Any) -> Event:
        published = event(**changes)
        self.kafka.append(Outgoing(SESSION_EVENTS, b"key", CODEC.encode(published)))
        return published


@pytest.fixture
def fixture() -> SearchFixture:
    return SearchFixture()


async def test_an_event_with_deliveries_needs_no_topic(fixture: SearchFixture) -> None:
    fixture.rows = list(merge_records([RecordedValue(delivery(), NOON)]).delivery_states)
    fixture.history.away = True
    found = await fixture.service.find("evt_1", "acme", NOON)
    assert (found.deliveries, found.published) == (fixture.rows, None)


async def test_an_event_on_the_topic_has_the_webhooks_that_want_it(fixture: SearchFixture) -> None:
    fixture.publish(id="evt_1", account_id="other")
    fixture.publish(id="evt_10")
    published = fixture.publish(id="evt_1")
    found = (await fixture.service.find("evt_1", "acme", NOON - timedelta(minutes=1))).published
    assert found is not None
    assert (found.event, found.webhook_ids, found.reason) == (published, ["wh_crm"], None)


@pytest.mark.parametrize(
    ("webhooks", "reason"),
    [
        ([], MismatchReason.NO_WEBHOOK),
        ([webhook(event_types=("package.updated",))], MismatchReason.TYPE),
        ([webhook(packages=frozenset({"pkg_other"}))], MismatchReason.SCOPE),
    ],
)
async def test_an_event_that_no_webhook_wants_has_the_reason(
    fixture: SearchFixture, webhooks: Sequence[Webhook], reason: MismatchReason
) -> None:
    fixture.publish(id="evt_1")
    fixture.webhooks = webhooks
    found = (await fixture.service.find("evt_1", "acme", NOON)).published
    assert found is not None
    assert (found.webhook_ids, found.reason) == ([], reason)


async def test_an_event_of_no_account_has_the_reason(fixture: SearchFixture) -> None:
    fixture.publish(id="evt_1")
    fixture.webhooks, fixture.accounts = [], set()
    found = (await fixture.service.find("evt_1", "acme", NOON)).published
    assert found is not None
    assert found.reason == "no_account"


async def test_the_wait_for_a_place_counts_in_the_seconds_of_a_search(
    fixture: SearchFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_scan, "RECORDS_PER_READ", 1)
    fixture.publish(id="evt_0")
    fixture.publish(id="evt_1")
    began_at = asyncio.get_running_loop().time() - event_search.SEARCH_TIMEOUT_SECONDS
    with (
        work_for(RequestOwner(RequestClass.SLOW, "acme", began_at)),
        pytest.raises(NotFound, match="took too long"),
    ):
        await fixture.service.find("evt_1", "acme", NOON)
    # However long it waited, it looks.
    assert fixture.history.reads == 1


async def test_too_many_webhooks_are_not_compared(fixture: SearchFixture) -> None:
    fixture.publish(id="evt_1")
    fixture.webhooks = None
    found = (await fixture.service.find("evt_1", "acme", NOON)).published
    assert found is not None
    assert found.webhook_ids is None


async def test_an_id_of_ours_tells_where_to_look(fixture: SearchFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> Page[DeliveryState]:
        return Page((), None)

    monkeypatch.setattr(fixture, "list", none)
    fixture.publish(id=ULID_OF_NOON)
    assert (await fixture.service.find(ULID_OF_NOON, "acme")).published is not None
    with pytest.raises(NotFound, match="no such event between 2026"):
        await fixture.service.find(f"evt_{ULID.from_datetime(NOON - timedelta(hours=1))}", "acme")


async def test_an_id_of_its_producer_is_searched_in_the_last_hour(fixture: SearchFixture) -> None:
    fixture.publish(id="evt_1")
    fixture.clock.advance(3000)
    found = await fixture.service.find("evt_1", "acme")
    assert found.published is not None
    fixture.clock.advance(3000)
    with pytest.raises(NotFound, match="no such event between 2026-04-10T12:40:00Z") as refused:
        await fixture.service.find("evt_1", "acme")
    assert "for another time set `since` to when it was published" in str(refused.value)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
async def test_a_time_at_the_end_of_all_times_is_answered(api: ApiFixture, time: str) -> None:
    response = await api.acme.request("GET", f"/v1/events/evt_1?since={time}")
    assert "when the event was published" in errors_of(response)["since"]


@pytest.mark.parametrize("event_id", ["evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "evt_00000000000000000000000000"])
async def test_an_id_with_an_impossible_time_is_answered(api: ApiFixture, event_id: str) -> None:
    response = await api.acme.request("GET", f"/v1/events/{event_id}")
    assert (response.status_code, "set `since`" in response.text) == (404, True)


async def test_a_search_that_takes_too_long_says_what_to_do(
    fixture: SearchFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_search, "SEARCH_TIMEOUT_SECONDS", 0)
    monkeypatch.setattr(event_scan, "RECORDS_PER_READ", 1)
    fixture.publish(id="evt_0")
    fixture.publish(id="evt_1")
    with pytest.raises(NotFound, match="set `since` to when it was published"):
        await fixture.service.find("evt_1", "acme", NOON)


async def test_the_api_finds_an_event_by_its_deliveries(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    owed = delivery(event_id="evt_1", account_id=api.acme.account_id, webhook_id=made["id"])
    await api.recorder.record(merge_records([RecordedValue(owed, NOON)]))
    found = await api.acme.get("/v1/events/evt_1")
    assert [one["webhookId"] for one in found["deliveries"]] == [made["id"]]
    assert "onTopic" not in found
    other = await api.globex.request("GET", "/v1/events/evt_1")
    assert (other.status_code, "set `since`" in other.text) == (404, True)
