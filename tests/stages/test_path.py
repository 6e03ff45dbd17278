"""The whole path of an event in memory: published, fanned out, delivered, recorded."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import standardwebhooks

from builders import EXAMPLE, NOON, SECRET, delivery, event, paused, webhook
from fakes import (
    cancel_others,
    quiet,
    until,
)
from stages.pipeline import BACKUP, BROKEN, CODEC, SCHEDULE, SLOTS, URL, WAITS, Pipeline
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import (
    DeathReason,
    Delivery,
    HoldReason,
    State,
    SubscriptionsPosition,
    Target,
    Trigger,
)
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import Request
from streams.core.deliveries.signing import sign_platform
from streams.core.errors import Unavailable
from streams.core.events.event import render
from streams.core.events.event_filter import parse_filter
from streams.core.queues.endpoint_queue import Priority
from streams.core.queues.slot_request import SlotRequest
from streams.core.records.offset_tracker import Commit, OffsetTracker
from streams.core.webhooks.webhook import PauseReason
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.stages import deliver as deliver_module
from streams.stages.fan_out import ACCOUNT_SHARE_DELIVERIES, RETRY_SECONDS, FanOut
from streams.stages.limiting.slot_limiter import AcquiredSlot
from streams.topics import (
    BULK_DELIVERIES,
    DEAD_LETTERS,
    DELIVERIES,
    HELD,
    INVALID,
    SESSION_EVENTS,
    SUBSCRIPTIONS,
    TEST_DELIVERIES,
)

# -- delivered -----------------------------------------------------------------------------------------------


async def test_an_event_arrives_with_both_signatures(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    (request,) = pipeline.sender.requests
    assert (request.url, request.body) == (URL, render(event()))
    assert request.headers["X-AllureConnect-Signature"] == sign_platform(SECRET, request.body)
    assert request.headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    signature = standardwebhooks.Webhook(SECRET).sign(event().id, NOON, request.body.decode())
    assert request.headers["webhook-signature"] == signature


async def test_a_delivered_event_is_visible_with_its_attempt(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, Response(202, {"server": "crm"}, b"thanks"))
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    (attempt,) = pipeline.attempts()
    assert (attempt.status, attempt.response_body) == (202, b"thanks")
    assert attempt.message == "The endpoint responded with 202."
    assert (pipeline.delivery_state().state, pipeline.delivery_state().attempts) == (State.DELIVERED, 1)
    assert pipeline.recorder.bodies == {("acme", event().id): render(event())}
    assert pipeline.kafka.topic(DEAD_LETTERS) == pipeline.kafka.topic(HELD) == pipeline.kafka.topic(INVALID) == []


async def test_all_webhooks_get_the_same_bytes_of_an_event(pipeline: Pipeline) -> None:
    await pipeline.register(*(webhook(id=f"wh_{n}", url=f"https://{n}.example.com") for n in range(3)))
    await pipeline.fan_out_events(event())
    assert {request.url for request in pipeline.sender.requests} == {f"https://{n}.example.com" for n in range(3)}
    assert len({request.body for request in pipeline.sender.requests}) == 1


async def test_the_customers_own_headers_are_sent_and_never_recorded(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(encrypted_headers='encrypted:{"Authorization": "Bearer abc"}'))
    await pipeline.fan_out_events(event())
    assert pipeline.sender.requests[0].headers["Authorization"] == "Bearer abc"
    assert pipeline.attempts()[0].request_headers["Authorization"] == "•••"


async def test_an_attempt_keeps_4_kib_of_response_headers(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    headers = {"date": "now", "content-security-policy": "\ufffd" * 1024, "x-large": "x" * 1500, "x-more": "x" * 1500}
    pipeline.sender.responses(URL, Response(500, headers))
    await pipeline.fan_out_events(event())
    kept = pipeline.attempts()[0].response_headers
    assert list(kept) == ["date", "content-security-policy", "…"]
    assert kept["…"] == "2 more headers are not kept"


async def test_a_header_that_an_endpoint_sends_back_is_not_recorded(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, Response(200, {"x-seen": "Bearer long-secret"}, b"got Bearer long-secret"))
    await pipeline.register(webhook(encrypted_headers='encrypted:{"Authorization": "Bearer long-secret"}'))
    await pipeline.fan_out_events(event())
    (attempt,) = pipeline.attempts()
    assert b"long-secret" not in attempt.response_body
    assert "long-secret" not in attempt.response_headers["x-seen"]


async def test_an_event_right_after_a_registration_is_delivered(pipeline: Pipeline) -> None:
    pipeline.outbox.put(webhook())
    await until(lambda: b"wh_crm" in [record.key for record in pipeline.kafka.topic(SUBSCRIPTIONS)])
    await pipeline.fan_out_events(event())
    assert pipeline.delivery_state().state is State.DELIVERED


# -- matching -----------------------------------------------------------------------------------------------


async def test_only_webhooks_in_scope_get_an_event(pipeline: Pipeline) -> None:
    await pipeline.register(
        webhook(id="wh_package", packages=frozenset({"pkg_def456"})),
        webhook(id="wh_dispatch", dispatches=frozenset({"dsp_ghi789"})),
        webhook(id="wh_other", packages=frozenset({"pkg_other"})),
        webhook(id="wh_launches", event_types=frozenset({"session.launched"})),
    )
    await pipeline.fan_out_events(event())
    assert {owed.webhook_id for owed in pipeline.deliveries()} == {"wh_package", "wh_dispatch"}


async def test_a_webhook_gets_what_its_filter_lets_through(pipeline: Pipeline) -> None:
    passed = webhook(filter=parse_filter({"successStatus": "passed"}))
    failed = webhook(id="wh_failed", url=BACKUP, filter=parse_filter({"successStatus": "failed"}))
    await pipeline.register(passed, failed)
    await pipeline.fan_out_events(event(), event(id="evt_2", data={**EXAMPLE, "successStatus": "unknown"}))
    assert [(request.url, request.headers["webhook-id"]) for request in pipeline.sender.requests] == [(URL, event().id)]
    reasons = [fields["reason"] for name, fields in pipeline.telemetry.logged if name == "event_unmatched"]
    assert reasons == ["filter"]


async def test_a_changed_filter_decides_about_later_events(pipeline: Pipeline) -> None:
    known = webhook(filter=parse_filter({"successStatus": "failed"}))
    await pipeline.register(known)
    await pipeline.fan_out_events(event(id="evt_1"))
    await pipeline.register(replace(known, version=2, filter=None))
    await pipeline.fan_out_events(event(id="evt_2"))
    assert [request.headers["webhook-id"] for request in pipeline.sender.requests] == ["evt_2"]


async def test_no_account_gets_events_of_another(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(), webhook(id="wh_globex", account_id="globex", url="https://globex.example"))
    await pipeline.fan_out_events(event(), event(id="evt_globex", account_id="globex"))
    assert {(r.url, r.headers["webhook-id"]) for r in pipeline.sender.requests} == {
        (URL, event().id),
        ("https://globex.example", "evt_globex"),
    }


async def test_a_delivery_of_another_account_is_never_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.put(DELIVERIES, delivery(account_id="globex"))
    assert pipeline.sender.requests == []
    ((_, headers),) = pipeline.invalid_records()
    assert headers["error"] == b"the delivery's account is not the account of its webhook"


async def test_a_backlog_does_not_flood_a_new_webhook(pipeline: Pipeline) -> None:
    early = pipeline.publish_event(event(id="evt_early"))
    pipeline.clock.advance(60)
    recent = pipeline.publish_event(event(id="evt_recent"))
    pipeline.clock.advance(300)
    await pipeline.register(webhook())
    await pipeline.fan_out.handle([early, recent])
    assert [owed.event_id for owed in pipeline.deliveries()] == ["evt_recent"]


# -- retries -----------------------------------------------------------------------------------------------


async def test_a_failing_endpoint_is_tried_in_each_tier(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    for number, seconds in enumerate(WAITS, start=1):
        assert pipeline.delivery_state().due_at == pipeline.clock.now() + timedelta(seconds=seconds)
        await pipeline.wait(seconds - 0.01)
        assert len(pipeline.sender.requests) == number
        await pipeline.wait(0.02)
        assert len(pipeline.sender.requests) == number + 1
    assert [request.headers["webhook-attempt"] for request in pipeline.sender.requests] == ["1", "2", "3", "4"]
    assert {request.body for request in pipeline.sender.requests} == {render(event())}


async def test_after_the_last_tier_a_delivery_is_a_dead_letter(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    for seconds in WAITS:
        await pipeline.wait(seconds + 0.01)
    (dead,) = pipeline.dead_letters()
    assert (dead.reason, dead.delivery.body) == (DeathReason.EXHAUSTED, render(event()))
    assert dead.message == "The endpoint responded with 500: its server failed."
    assert (pipeline.delivery_state().state, pipeline.delivery_state().attempts) == (State.DEAD, 4)
    assert [attempt.response_body for attempt in pipeline.attempts()] == [b"out of order"] * 4
    assert pipeline.recorder.health["wh_crm"].failures == 4


async def test_an_endpoint_that_recovers_gets_its_event(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN, Failure(OutcomeKind.TIMEOUT), Response(200, {}))
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.wait(30.01)
    await pipeline.wait(120.01)
    assert [attempt.outcome for attempt in pipeline.attempts()] == [
        OutcomeKind.SERVER_ERROR,
        OutcomeKind.TIMEOUT,
        OutcomeKind.DELIVERED,
    ]
    assert pipeline.delivery_state().state is State.DELIVERED
    assert pipeline.recorder.health["wh_crm"].failures == 0


async def test_retry_after_is_respected(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, Response(429, {"retry-after": "60"}), Response(200, {}))
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.wait(119)
    assert len(pipeline.sender.requests) == 1
    await pipeline.wait(1.01)
    assert pipeline.delivery_state().state is State.DELIVERED


async def test_a_changed_url_applies_to_waiting_deliveries(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.register(webhook(url="https://new.example.com"))
    await pipeline.wait(30.01)
    assert len(pipeline.sender.to("https://new.example.com")) == 1


async def test_an_undecryptable_secret_does_not_count_for_health(pipeline: Pipeline) -> None:
    locked = replace(webhook().secrets[0], ciphertext="locked")
    await pipeline.register(webhook(secrets=(locked,)))
    await pipeline.fan_out_events(event())
    assert pipeline.sender.requests == []
    assert pipeline.attempts()[0].outcome is OutcomeKind.UNSENDABLE
    assert (pipeline.delivery_state().state, pipeline.delivery_state().tier) == (State.WAITING, "30s")
    assert pipeline.recorder.health["wh_crm"].failures == 0


@pytest.mark.parametrize("secret", [(), ("encrypted:whsec_not base64!",)])
async def test_a_webhook_without_a_secret_stops_no_other(pipeline: Pipeline, secret: tuple[str, ...]) -> None:
    secrets = tuple(replace(webhook().secrets[0], ciphertext=text) for text in secret)
    await pipeline.register(webhook(id="wh_odd", secrets=secrets), webhook())
    await pipeline.fan_out_events(event())
    assert [request.url for request in pipeline.sender.requests] == [URL]
    assert {attempt.webhook_id: attempt.outcome for attempt in pipeline.attempts()} == {
        "wh_odd": OutcomeKind.UNSENDABLE,
        "wh_crm": OutcomeKind.DELIVERED,
    }


# -- the fallback URL ----------------------------------------------------------------------------------------


async def test_the_fallback_url_is_tried_before_a_dead_letter(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, Response(410, {}))
    await pipeline.register(webhook(fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    (request,) = pipeline.sender.to(BACKUP)
    assert request.headers["X-AllureConnect-Signature"] == sign_platform(SECRET, render(event()))
    assert (pipeline.delivery_state().state, pipeline.delivery_state().target) == (State.DELIVERED, Target.FALLBACK)
    assert pipeline.recorder.health["wh_crm"].pause is PauseReason.GONE


@pytest.mark.parametrize(
    ("fallback_url", "own", "sent"),
    [
        pytest.param(BACKUP, None, None, id="another host gets none"),
        pytest.param(f"{URL}/spare", None, "Bearer abc", id="the same host gets them"),
        pytest.param(BACKUP, "Bearer spare", "Bearer spare", id="its own"),
    ],
)
async def test_the_headers_of_an_endpoint_go_to_no_other_host(
    pipeline: Pipeline, fallback_url: str, own: str | None, sent: str | None
) -> None:
    pipeline.sender.responses(URL, Response(410, {}))
    await pipeline.register(
        webhook(
            fallback_url=fallback_url,
            encrypted_headers='encrypted:{"Authorization": "Bearer abc"}',
            encrypted_fallback_headers=own and f'encrypted:{{"Authorization": "{own}"}}',
        )
    )
    await pipeline.fan_out_events(event())
    assert pipeline.sender.requests[0].headers["Authorization"] == "Bearer abc"
    (request,) = pipeline.sender.to(fallback_url)
    assert request.headers.get("Authorization") == sent


async def test_each_endpoint_waits_for_slots_by_itself(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire, asked = pipeline.slots.acquire, list[tuple[str, Priority]]()

    async def noted(request: SlotRequest, waiting: Any) -> AcquiredSlot:
        asked.append((request.queue, request.priority))
        return await acquire(request, waiting)

    monkeypatch.setattr(pipeline.slots, "acquire", noted)
    pipeline.sender.responses(URL, BROKEN, Response(410, {}))
    await pipeline.register(webhook(fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    await pipeline.put(TEST_DELIVERIES, delivery(event_id="evt_test", trigger=Trigger.TEST))
    assert asked == [
        ("wh_crm", Priority.FIRST),
        ("wh_crm", Priority.RETRY),
        ("wh_crm/fallback", Priority.RETRY),
        ("wh_crm/test", Priority.TEST),
    ]


async def test_a_fallback_url_that_fails_too_makes_it_a_dead_letter(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    pipeline.sender.responses(BACKUP, BROKEN)
    await pipeline.register(webhook(fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    for seconds in [*WAITS, *WAITS[:2]]:
        await pipeline.wait(seconds + 0.01)
    assert len(pipeline.sender.to(URL)) == 4
    assert len(pipeline.sender.to(BACKUP)) == 3
    assert (pipeline.delivery_state().state, pipeline.delivery_state().attempts) == (State.DEAD, 7)


async def test_after_410_a_failed_fallback_means_held(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, Response(410, {}))
    pipeline.sender.responses(BACKUP, BROKEN)
    await pipeline.register(webhook(fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    await pipeline.wait(30.01)
    await pipeline.wait(120.01)
    assert len(pipeline.sender.to(BACKUP)) == 3
    assert len(pipeline.sender.to(URL)) == 1
    assert (pipeline.delivery_state().state, pipeline.delivery_state().attempts) == (State.HELD, 4)


# -- paused and deleted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(PauseReason))
async def test_a_paused_webhook_gets_no_requests(pipeline: Pipeline, reason: PauseReason) -> None:
    await pipeline.register(paused(reason))
    await pipeline.fan_out_events(event())
    (held,) = pipeline.deliveries(HELD)
    assert (held.hold_reason, held.pause_id, held.body) == (HoldReason.PAUSED, "pause_1", render(event()))
    assert (pipeline.delivery_state().state, pipeline.delivery_state().reason) == (State.HELD, "paused")
    assert pipeline.sender.requests == []


async def test_five_failures_pause_a_webhook_and_hold_the_rest(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    for number in range(6):
        await pipeline.fan_out_events(event(id=f"evt_{number}"))
    assert len(pipeline.sender.requests) == 5
    assert [held.event_id for held in pipeline.deliveries(HELD)] == ["evt_5"]


async def test_a_retry_during_a_pause_keeps_its_attempt_number(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.register(paused())
    await pipeline.wait(30.01)
    (held,) = pipeline.deliveries(HELD)
    assert (held.attempt, held.target_attempt) == (2, 2)
    assert len(pipeline.sender.requests) == 1


async def test_a_pause_holds_deliveries_that_wait_for_a_slot(pipeline: Pipeline) -> None:
    release = pipeline.sender.hangs(URL)
    await pipeline.register(webhook(max_concurrency=1))
    await pipeline.fan_out_events(event(), event(id="evt_second"))
    await pipeline.register(paused())
    release.set()
    await quiet()
    assert [request.headers["webhook-id"] for request in pipeline.sender.requests] == [event().id]
    assert [held.event_id for held in pipeline.deliveries(HELD)] == ["evt_second"]


async def test_an_automatic_pause_sends_to_the_fallback_url_instead(pipeline: Pipeline) -> None:
    await pipeline.register(paused(PauseReason.FAILURES, fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    assert [request.url for request in pipeline.sender.requests] == [BACKUP]
    assert pipeline.delivery_state().state is State.DELIVERED


async def test_a_removed_fallback_url_sends_to_the_primary_again(pipeline: Pipeline) -> None:
    pipeline.sender.responses(BACKUP, BROKEN)
    await pipeline.register(paused(PauseReason.FAILURES, fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    await pipeline.register(webhook())
    await pipeline.wait(30.01)
    assert [request.url for request in pipeline.sender.requests] == [BACKUP, URL]
    assert pipeline.delivery_state().state is State.DELIVERED
    assert pipeline.telemetry.counts["deliveries_held_total"] == 0
    assert pipeline.deliveries(HELD) == []


async def test_a_dead_letter_says_that_the_fallback_url_was_removed(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    pipeline.sender.responses(BACKUP, BROKEN)
    await pipeline.register(webhook(fallback_url=BACKUP))
    await pipeline.fan_out_events(event())
    for seconds in WAITS:
        await pipeline.wait(seconds + 0.01)
    await pipeline.register(webhook())
    await pipeline.wait(WAITS[0] + 0.01)
    (dead,) = pipeline.dead_letters()
    assert dead.reason is DeathReason.EXHAUSTED
    assert dead.message == "Every attempt at the webhook's URL failed, and its fallback URL was removed."
    assert len(pipeline.sender.to(URL)) == len(WAITS) + 1


async def test_a_deleted_webhook_leaves_dead_letters(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.remove("wh_crm")
    await pipeline.wait(30.01)
    (dead,) = pipeline.dead_letters()
    assert (dead.reason, dead.delivery.body) == (DeathReason.DELETED, render(event()))
    assert pipeline.delivery_state().reason == "deleted"
    assert len(pipeline.sender.requests) == 1


async def test_deliver_waits_for_an_unknown_webhook(pipeline: Pipeline) -> None:
    await pipeline.register()
    pipeline.table.fall_behind()
    await pipeline.register(webhook())
    await pipeline.put(
        DELIVERIES,
        delivery(subscriptions_position=SubscriptionsPosition("first", len(pipeline.kafka.topic(SUBSCRIPTIONS)))),
    )
    assert pipeline.dead_letters() == []
    assert pipeline.sender.requests == []
    pipeline.table.read_on()
    await quiet()
    assert len(pipeline.sender.requests) == 1


async def test_deliver_does_not_wait_for_a_position_beyond_the_end(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.put(DELIVERIES, delivery(subscriptions_position=SubscriptionsPosition("first", 2**62)))
    assert len(pipeline.sender.requests) == 1


# -- invalid records --------------------------------------------------------------------------------------------------

LAUNCHED = {name: EXAMPLE[name] for name in ("sessionId", "packageId", "learnerId")}
UNKNOWN_TYPE = CODEC.encode(event(type="session.launched", data=LAUNCHED)).replace(b".launched", b".relaunch")
TOO_LARGE = CODEC.encode(event(data={**EXAMPLE, "totalTime": f"PT{'1' * 300_000}S"}))
INVALID_FIELD = CODEC.encode(event(data={**EXAMPLE, "totalTime": "12:34"}))


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (b"{}", "it begins with 7b 7d, not with c3 01"),
        (None, "it begins with nothing"),
        (CODEC.encode(event())[:-5], "session_event: it ends"),
        (CODEC.encode(delivery()), "a delivery is not an event"),
        (UNKNOWN_TYPE, "unknown event type 'session.relaunch'; a newer version may know it"),
        (TOO_LARGE, "data.totalTime: must have at most 64 characters"),
        (INVALID_FIELD, "data.totalTime: must be an ISO 8601 duration"),
    ],
    ids=["junk", "nothing", "cut short", "no event", "unknown type", "too large", "wrong field"],
)
async def test_an_invalid_event_is_stored_byte_for_byte(
    pipeline: Pipeline, invalid: bytes | None, message: str
) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out.handle([pipeline.publish_bytes(invalid), pipeline.publish_event(event())])
    await quiet()
    ((value, headers),) = pipeline.invalid_records()
    assert value == invalid
    assert message in headers["error"].decode()
    assert headers["trace"] == b"1"
    assert (headers["origin-topic"], headers["origin-offset"]) == (SESSION_EVENTS.encode(), b"0")
    assert pipeline.delivery_state().state is State.DELIVERED


@pytest.mark.parametrize("invalid", [b"{}", None, CODEC.encode(delivery())[:-1], CODEC.encode(webhook())], ids=repr)
@pytest.mark.parametrize("topic", [DELIVERIES, "deliveries.retry.30s"])
async def test_an_invalid_delivery_is_stored_byte_for_byte(
    pipeline: Pipeline, topic: str, invalid: bytes | None
) -> None:
    await pipeline.register(webhook())
    pipeline.kafka.append(Outgoing(topic, b"wh_crm", invalid))
    await pipeline.put(topic, delivery())
    await pipeline.wait(31)
    by_deliver = [
        (value, headers) for value, headers in pipeline.invalid_records() if headers["origin-topic"] == topic.encode()
    ]
    assert by_deliver[0][0] == invalid
    assert len(pipeline.sender.requests) == 1


# -- outages, repeats and crashes ----------------------------------------------------------------------------


async def test_a_broker_outage_loses_nothing(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    record = pipeline.publish_event(event())
    pipeline.kafka.leave()
    fanning_out = asyncio.create_task(pipeline.fan_out.handle([record]))
    await quiet()
    assert not fanning_out.done()
    counts = pipeline.telemetry.counts
    assert (counts["events_total"], counts["deliveries_created_total"]) == (0, 0)
    pipeline.kafka.come_back()
    await quiet()
    assert pipeline.delivery_state().state is State.DELIVERED


class AwayCodec(AvroCodec):
    """The schema registry does not answer once."""

    is_away = True

    def decode(self, value: bytes) -> Any:
        if self.is_away:
            self.is_away = False
            raise Unavailable("the registry is away")
        return super().decode(value)


async def test_fan_out_waits_for_the_schema_registry(pipeline: Pipeline) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await pipeline.register(webhook())
    telemetry = pipeline.telemetry
    fan_out = FanOut(AwayCodec(), pipeline.table, pipeline.kafka, telemetry, Outages(telemetry, sleep=sleep))
    await fan_out.handle([pipeline.publish_event(event())])
    assert slept == [RETRY_SECONDS]
    assert telemetry.fields_of("schema_registry_unreachable") == [{"why": "the registry is away"}]
    assert telemetry.logged_count("schema_registry_reachable") == 1
    assert [one.event_id for one in pipeline.deliveries()] == [event().id]


async def test_a_repeated_delivery_is_dropped(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.fan_out.handle([pipeline.kafka.topic(SESSION_EVENTS)[0]])
    await quiet()
    assert len(pipeline.deliveries()) == 2
    assert len(pipeline.sender.requests) == 1
    assert pipeline.telemetry.counts["duplicates_dropped_total"] == 1


async def test_a_duplicate_in_progress_is_not_sent(pipeline: Pipeline) -> None:
    release = pipeline.sender.hangs(URL)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.fan_out.handle([pipeline.kafka.topic(SESSION_EVENTS)[0]])
    await quiet()
    assert len(pipeline.sender.requests) == 1
    release.set()
    await quiet()
    assert len(pipeline.sender.requests) == 1
    assert pipeline.telemetry.counts["duplicates_dropped_total"] == 1
    assert complete(pipeline) == {event().id}


async def test_a_replay_is_not_a_duplicate(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.put(DELIVERIES, pipeline.deliveries()[0]._replace(generation=2))
    assert len(pipeline.sender.requests) == 2


def complete(pipeline: Pipeline) -> set[str]:
    """The events whose delivery is complete in the commits."""
    done = set()
    for record in pipeline.kafka.topic(DELIVERIES):
        commit = pipeline.kafka.groups["deliver"].get(record.partition, Commit(0, ""))
        owed = CODEC.decode(record.value or b"")
        assert isinstance(owed, Delivery)
        if record.offset < commit.offset or not OffsetTracker(commit.offset, commit.metadata).open(record.offset):
            done.add(owed.event_id)
    return done


async def answers_out_of_order(request: Request) -> Response:
    for _ in range(int(request.headers["webhook-id"].removeprefix("evt_")) * 7 % 5):
        await asyncio.sleep(0)
    return Response(200, {})


@pytest.mark.parametrize("appended", [False, True], ids=["before the append", "after the append"])
@pytest.mark.parametrize("calls", range(1, 13))
async def test_a_crash_repeats_only_uncommitted_deliveries(pipeline: Pipeline, calls: int, appended: bool) -> None:
    pipeline.sender.put(URL, answers_out_of_order)
    await pipeline.register(webhook())
    events = [event(id=f"evt_{number}") for number in range(12)]
    await pipeline.fan_out.handle([pipeline.publish_event(event) for event in events])
    pipeline.kafka.die_in(calls, appended=appended)
    await until(lambda: pipeline.kafka.is_dead)
    await cancel_others()
    before, safe = pipeline.sent(), complete(pipeline)
    assert safe <= before.keys()
    assert safe or calls <= SLOTS

    await pipeline.crash()
    await quiet()
    after = pipeline.sent()
    assert after.keys() == {event.id for event in events}
    assert {event_id for event_id, times in after.items() if times > 1} == before.keys() - safe
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    assert len(pipeline.recorder.delivery_states) == len(pipeline.recorder.attempts) == len(events)


async def test_a_crash_of_fan_out_repeats_the_same_ids(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(), webhook(id="wh_other", url=BACKUP))
    record = pipeline.publish_event(event())
    pipeline.kafka.die_in(1, appended=True)
    asyncio.create_task(pipeline.fan_out.handle([record]))  # noqa: RUF006 – the crash ends it
    await until(lambda: pipeline.kafka.is_dead)
    await pipeline.crash()
    await pipeline.fan_out.handle([record])
    await quiet()
    assert len(pipeline.deliveries()) == 4
    assert len({owed.id for owed in pipeline.deliveries()}) == len(pipeline.recorder.delivery_states) == 2
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


# -- local shortages -------------------------------------------------------------------------------------------


async def test_a_local_shortage_postpones_an_attempt(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_module, "SHORTAGE_PAUSE_SECONDS", 0)
    short = True

    async def endpoint(_: Request) -> Response:
        if short:
            raise Unavailable("Too many open files")
        return Response(200, {})

    pipeline.sender.put(URL, endpoint)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    assert pipeline.attempts() == []
    assert pipeline.delivery_state().state is State.WAITING
    assert pipeline.telemetry.logged_count("attempts_postponed") == 1
    short = False
    await until(lambda: bool(pipeline.attempts()))
    (attempt,) = pipeline.attempts()
    assert (attempt.number, attempt.outcome) == (1, OutcomeKind.DELIVERED)
    assert pipeline.delivery_state().state is State.DELIVERED


async def test_an_account_beyond_its_share_uses_the_bulk(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(), webhook(id="wh_other", account_id="other", url="https://other.example.com"))
    burst = [pipeline.publish_event(event(id=f"evt_{number}")) for number in range(ACCOUNT_SHARE_DELIVERIES + 20)]
    other = pipeline.publish_event(event(id="evt_other", account_id="other"))
    await pipeline.fan_out.handle([*burst, other])
    by_topic = {
        topic: [one.account_id for one in pipeline.deliveries(topic)] for topic in (DELIVERIES, BULK_DELIVERIES)
    }
    assert by_topic == {DELIVERIES: ["acme"] * ACCOUNT_SHARE_DELIVERIES + ["other"], BULK_DELIVERIES: ["acme"] * 20}
    await until(lambda: len(pipeline.attempts()) == ACCOUNT_SHARE_DELIVERIES + 21)


async def test_an_account_soon_has_its_whole_share_again(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    for burst in range(2):
        ids = [f"evt_{burst}_{number}" for number in range(ACCOUNT_SHARE_DELIVERIES)]
        await pipeline.fan_out.handle([pipeline.publish_event(event(id=event_id)) for event_id in ids])
        pipeline.clock.advance(5)
    assert len(pipeline.deliveries()) == 2 * ACCOUNT_SHARE_DELIVERIES
    assert pipeline.deliveries(BULK_DELIVERIES) == []


async def test_all_deliveries_of_an_event_take_the_same_way(pipeline: Pipeline) -> None:
    many = ACCOUNT_SHARE_DELIVERIES + 20
    await pipeline.register(
        *(webhook(id=f"wh_{number}", url=f"https://{number}.example.com") for number in range(many))
    )
    await pipeline.fan_out.handle([pipeline.publish_event(event(id=f"evt_{number}")) for number in range(2)])
    assert {one.event_id for one in pipeline.deliveries()} == {"evt_0"}
    assert {one.event_id for one in pipeline.deliveries(BULK_DELIVERIES)} == {"evt_1"}


async def test_an_event_costs_what_the_last_ones_of_its_account_became(pipeline: Pipeline) -> None:
    webhooks = [webhook(id=f"wh_{number}", url=f"https://{number}.example.com") for number in range(3)]
    await pipeline.register(*webhooks, webhook(id="wh_strange", url="https://strange.example.com", packages={"other"}))
    await pipeline.fan_out.handle([])
    assert (pipeline.fan_out.deliveries_per_event("acme"), pipeline.fan_out.deliveries_per_event("nobody")) == (4, 1)
    await pipeline.fan_out.handle([pipeline.publish_event(event())])
    assert pipeline.fan_out.deliveries_per_event("acme") == 3


async def test_a_batch_that_becomes_too_much_is_left_in_part(pipeline: Pipeline) -> None:
    await pipeline.register(*(webhook(id=f"wh_{number}", url=f"https://{number}.example.com") for number in range(600)))
    events = [pipeline.publish_event(event(id=f"evt_{number}")) for number in range(5)]
    assert await pipeline.fan_out.handle(events) == 2
    assert len([*pipeline.deliveries(), *pipeline.deliveries(BULK_DELIVERIES)]) == 1200
