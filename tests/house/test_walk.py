"""How many functions a reader opens to follow one record through `fan-out` and `deliver`."""

import asyncio
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import pytest

from builders import event, webhook
from fakes import FakeClock, FakeKafka, FakeRecordConsumer, FakeSubscriptions, FakeTelemetry, until
from stages.test_deliver import DeliverFixture
from streams.adapters.avro.codec import AvroCodec
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.core.webhooks.delivery_options import parse_options
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.stages.consuming.event_reader import EventReader
from streams.stages.fan_out import FanOut
from streams.tasks import run_until_first_ends
from streams.topics import DELIVERIES, SESSION_EVENTS, SUBSCRIPTIONS

CODEC = AvroCodec()

MODULES = ("streams.stages.", "streams.outage")
# An event that becomes one delivery.
MAX_ENTERED_OF_FAN_OUT = 28
MAX_RETURNS_OF_FAN_OUT = 10
# An event that is delivered at its first attempt.
MAX_ENTERED = 21
MAX_RETURNS = 6
# Every rule that a webhook may have: the limiter keeps its rate, and the sender adds its credentials.
EVERY_RULE = {
    "auth": {"type": "basic", "username": "ada"},
    "timeoutSeconds": 30,
    "ratePerSecond": 5,
    "rateBurst": 5,
    "retries": ["30s", "2m"],
    "pauseAfter": {"failures": 3, "minutes": 5},
    "onGone": "delete",
    "resume": "probe",
    "fields": ["sessionId"],
}


class Walk:
    """A profile function: the functions that handle a record, each with the one that called it, in order.

    It counts calls of what `streams.stages` and `streams.outage` define, from `received` to the commit, lambdas too,
    and a function again when it is called again. A coroutine counts when it begins: the loop of the commits began
    before. Comprehensions do not count, and nor do `__init__` and `__enter__`, which only make what a call or a `with`
    returns. The pure rules of `streams.core` and the ports do not count.

    A return is a call by another function than the one that was entered last: a reader goes back to it and reads on.
    """

    def __init__(self) -> None:
        self.entered: dict[FrameType, FrameType | None] = {}
        self._begun: set[FrameType] = set()
        self._is_on = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame in self._begun or not str(frame.f_globals.get("__name__")).startswith(MODULES):
            return
        # Kept, so that a coroutine that goes on is known.
        self._begun.add(frame)
        name = frame.f_code.co_name
        if name in ("on_received", "on_revoked"):
            self._is_on = name == "on_received"
        if self._is_on and (name == "<lambda>" or name[0] != "<") and name not in ("__init__", "__enter__"):
            caller = frame.f_back
            while caller is not None and caller not in self.entered:
                caller = caller.f_back
            self.entered[frame] = caller

    @property
    def names(self) -> list[str]:
        return [frame.f_code.co_name for frame in self.entered]

    @property
    def returns(self) -> list[str]:
        """The functions that another one calls than the one that was entered last."""
        last = [None, *self.entered]
        return [
            frame.f_code.co_name
            for before, (frame, caller) in zip(last, self.entered.items(), strict=False)
            if caller not in (None, before)
        ]


@pytest.mark.parametrize("rules", [{}, EVERY_RULE], ids=["none", "every rule"])
async def test_a_record_takes_few_functions_to_its_commit(rules: Mapping[str, object]) -> None:
    secret = "encrypted:password" if rules else None
    fixture, walk = DeliverFixture(webhook(options=parse_options(rules), encrypted_auth_secret=secret)), Walk()
    fixture.telemetry.is_debug_enabled = fixture.telemetry.is_tracing = False
    sys.setprofile(walk)
    try:
        await fixture.consume()
    finally:
        sys.setprofile(None)
    assert len(fixture.sender.requests) == 1
    names = walk.names
    assert (names[0], names[-1]) == ("on_received", "commit")
    assert {"read", "deliver", "acquire", "attempt", "_produce_decision"} <= set(names)
    assert len(names) <= MAX_ENTERED, names
    assert len(walk.returns) <= MAX_RETURNS, walk.returns


async def test_an_event_takes_few_functions_to_its_commit() -> None:
    telemetry, kafka, walk = FakeTelemetry(), FakeKafka(FakeClock()), Walk()
    telemetry.is_debug_enabled = telemetry.is_tracing = False
    subscriptions, outages = FakeSubscriptions(kafka, CODEC), Outages(telemetry)
    fan_out = FanOut(CODEC, subscriptions, kafka, telemetry, outages)
    reader = EventReader(FakeRecordConsumer(kafka, "fan-out", [SESSION_EVENTS]), CODEC, telemetry, outages)
    kafka.append(Outgoing(SUBSCRIPTIONS, b"wh_crm", CODEC.encode(webhook())))
    kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 1).encode()))
    await subscriptions.catch_up()
    running = asyncio.create_task(run_until_first_ends(reader.run, lambda: fan_out.run(reader)))
    await until(lambda: bool(kafka.groups["fan-out"]) or telemetry.logged_count("partitions_assigned") == 1)
    sys.setprofile(walk)
    try:
        kafka.append(Outgoing(SESSION_EVENTS, b"key", CODEC.encode(event())))
        await until(lambda: any(commit.offset for commit in kafka.groups["fan-out"].values()))
    finally:
        sys.setprofile(None)
        running.cancel()
    assert len(kafka.topic(DELIVERIES)) == 1
    names = walk.names
    assert names[0] == "on_received"
    assert {"next_batch", "handle", "produce_or_store_invalid", "commit"} <= set(names)
    assert len(names) <= MAX_ENTERED_OF_FAN_OUT, names
    assert len(walk.returns) <= MAX_RETURNS_OF_FAN_OUT, walk.returns
