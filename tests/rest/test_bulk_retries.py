"""An integrator sends all deliveries again that match a filter."""

from datetime import timedelta
from typing import Any

import pytest

from builders import NOON, attempt, delivery
from rest.api_fixture import ApiFixture, errors_of
from rest.test_deliveries import dead_letter, finish, ids, known_as, waiting_delivery
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason, Trigger
from streams.core.deliveries.outcome import OutcomeKind

PATH = "/v1/deliveries/retry"
BODY = b'{"data": {"sessionId": "s1", "learnerId": "ada", "packageId": "p1", "metadata": {"department": "sales"}}}'


async def delivered(api: ApiFixture, number: int, webhook_id: str, **changes: Any) -> Delivery:
    """Store a delivered delivery, first seen `number` seconds after noon."""
    made = await waiting_delivery(api, number, webhook_id=webhook_id, **changes)
    await api.record(attempt(**known_as(made)), at=made.first_seen_at)
    return made


async def one_in_each_state(api: ApiFixture, webhook_id: str) -> None:
    """Delivered 1, dead 2, waiting on the way 3, waiting for a retry 4, held 5, a test 6."""
    await delivered(api, 1, webhook_id, body=BODY)
    await dead_letter(api, 2, webhook_id=webhook_id)
    await waiting_delivery(api, 3, webhook_id=webhook_id)
    retried = await waiting_delivery(api, 4, webhook_id=webhook_id)
    failure = {"outcome": OutcomeKind.TIMEOUT, "status": None, "next_step": NextStep.TIER, "tier": "30s"}
    await api.record(attempt(**known_as(retried), **failure), at=retried.first_seen_at)
    held = delivery(**known_as(await waiting_delivery(api, 5, webhook_id=webhook_id)))
    await api.record(held.to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))
    test = await waiting_delivery(api, 6, webhook_id=webhook_id, trigger=Trigger.TEST)
    await api.record(attempt(**known_as(test), trigger=Trigger.TEST), at=test.first_seen_at)
    api.clock.advance(60)


async def sent_again(api: ApiFixture, **wanted: Any) -> list[str]:
    """Run a job for a filter. Returns the ids of the events that are sent again."""
    before = set(await ids(api, "/v1/deliveries", state="held"))
    response = await api.acme.request("POST", PATH, {"filter": wanted})
    assert response.status_code == 202, response.text
    await finish(api, response.json()["id"])
    return sorted(set(await ids(api, "/v1/deliveries", state="held")) - before)


@pytest.mark.parametrize(
    ("wanted", "events"),
    [
        # Without a state: all that are at their end.
        ({"since": "2026-04-10T00:00:00Z"}, ["evt_1", "evt_2"]),
        ({"state": "delivered"}, ["evt_1"]),
        ({"state": "dead"}, ["evt_2"]),
        ({"reason": "exhausted"}, ["evt_2"]),
        ({"state": "waiting"}, ["evt_4"]),
        ({"state": "waiting", "outcome": "timeout"}, ["evt_4"]),
        ({"outcome": "timeout"}, []),
        ({"state": "discarded"}, []),
        ({"sessionId": "s1"}, ["evt_1"]),
        ({"learnerId": "ada"}, ["evt_1"]),
        ({"packageId": "p1", "metadata": "department=sales"}, ["evt_1"]),
        ({"metadata": "department=hr"}, []),
        ({"eventId": "evt_2"}, ["evt_2"]),
        ({"eventType": "session.completed", "until": "2026-04-10T12:00:02Z"}, ["evt_1"]),
    ],
)
async def test_all_that_match_are_sent_again(api: ApiFixture, wanted: dict[str, str], events: list[str]) -> None:
    webhook = (await api.acme.webhook())["id"]
    await one_in_each_state(api, webhook)
    counted = await api.acme.post(PATH, {"filter": wanted, "countOnly": True})
    assert (counted["count"], counted["atLeast"], counted["webhooks"]) == (len(events), False, min(len(events), 1))
    assert await sent_again(api, **wanted) == events


async def test_a_count_names_the_oldest_and_deleted_webhooks(api: ApiFixture) -> None:
    webhook, old = [(await api.acme.webhook())["id"] for _ in range(2)]
    for number in (1, 2):
        await delivered(api, number, webhook)
    await delivered(api, 3, old)
    await api.acme.delete(f"/v1/webhooks/{old}")
    api.clock.advance(60)
    counted = await api.acme.post(PATH, {"filter": {"state": "delivered"}, "countOnly": True})
    assert counted == {
        "count": 3,
        "atLeast": False,
        "webhooks": 2,
        "undeliverable": 1,
        "oldestAt": "2026-04-10T12:00:01Z",
        "countedAt": "2026-04-10T12:01:00Z",
    }
    assert await api.jobs.list_unfinished("") == []


async def test_a_count_stops_at_its_limit(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.features.deliveries.search.MAX_COUNTED_DELIVERIES", 2)
    webhook = (await api.acme.webhook())["id"]
    for number in range(3):
        await delivered(api, number, webhook)
    api.clock.advance(60)
    counted = await api.acme.post(PATH, {"filter": {"state": "delivered"}, "countOnly": True})
    assert (counted["count"], counted["atLeast"]) == (2, True)
    assert await sent_again(api, state="delivered") == ["evt_0", "evt_1", "evt_2"]


async def test_what_comes_after_the_count_is_not_sent(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    await delivered(api, 1, webhook)
    api.clock.advance(60)
    counted = await api.acme.post(PATH, {"filter": {"webhookId": webhook}, "countOnly": True})
    late = await waiting_delivery(api, 2, webhook_id=webhook)
    await api.record(attempt(**known_as(late)), at=NOON + timedelta(seconds=90))
    api.clock.advance(60)
    assert await sent_again(api, webhookId=webhook, changedUntil=counted["countedAt"]) == ["evt_1"]


async def test_a_job_sends_each_once(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    made = await delivered(api, 1, webhook)
    api.clock.advance(60)
    job = await api.acme.post(PATH, {"filter": {"webhookId": webhook}})
    await finish(api, job["id"])
    await api.record(attempt(**known_as(made), generation=2), at=api.clock.now())
    assert (await api.acme.get(f"/v1/deliveries/{made.id}"))["generation"] == 2
    finished = await api.acme.get(f"/v1/jobs/{job['id']}")
    assert (finished["total"], finished["done"], finished["status"]) == (1, 1, "finished")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"filter": {}}, "filter", "must have a field, such as since, webhookId or state"),
        ({"filter": {"changedUntil": "2026-04-10T12:00:00Z"}}, "filter", "must have a field"),
        ({"filter": {"state": "held"}}, "filter.state", "held deliveries are sent without a retry"),
        ({"filter": {"state": "failed"}}, "filter.state", "a test is not sent again"),
        ({"filter": {"outcome": "delivered"}}, "filter.outcome", "names a failure"),
        ({"filter": {"metadata": "sales"}}, "filter.metadata", ""),
        ({"filter": {"webhook": "wh_1"}}, "filter.webhook", ""),
        ({"ids": ["a"], "filter": {"state": "dead"}}, "ids", "either"),
        ({"ids": ["a"], "countOnly": True}, "ids", "either"),
        ({}, "ids", "either"),
    ],
)
async def test_a_wrong_filter_is_named(api: ApiFixture, body: dict[str, Any], field: str, words: str) -> None:
    for count_only in ({}, {"countOnly": True}):
        if "filter" in body or not count_only:
            errors = errors_of(await api.acme.request("POST", PATH, {**body, **count_only}))
            assert words in errors[field]


async def test_another_accounts_deliveries_do_not_match(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    await delivered(api, 1, webhook)
    api.clock.advance(60)
    counted = await api.globex.post(PATH, {"filter": {"webhookId": webhook}, "countOnly": True})
    assert (counted["count"], "oldestAt" in counted) == (0, False)
    job = await api.globex.post(PATH, {"filter": {"webhookId": webhook}})
    await finish(api, job["id"])
    assert await ids(api, "/v1/deliveries", state="held") == []


async def test_a_finished_job_forgets_the_learner(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    await delivered(api, 1, webhook, body=BODY)
    api.clock.advance(60)
    job = await api.acme.post(PATH, {"filter": {"learnerId": "ada", "metadata": "department=sales"}})
    running = await api.jobs.find(job["id"])
    assert running is not None
    assert (running.filter.learner_id, running.filter.metadata) == ("ada", ("department", "sales"))
    await finish(api, job["id"])
    finished = await api.jobs.find(job["id"])
    assert finished is not None
    assert (finished.filter.learner_id, finished.filter.metadata, finished.done) == (None, None, 1)
