"""The stages move a delivery as the table of its state machine says, and as nothing else."""

from enum import StrEnum
from itertools import product

import pytest

from builders import delivery, event, paused, webhook
from fakes import quiet
from stages.pipeline import URL, Pipeline
from stages.test_deliver import CODEC, DeliverFixture
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import Delivery, State, Trigger
from streams.core.deliveries.delivery_moves import TRANSITIONS
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.schedule import Tier
from streams.core.webhooks.webhook import PauseReason, Webhook
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, INVALID, retry_topic

BACKUP = "https://backup.example.com/hooks"
WEBHOOKS = [
    None,
    *(webhook(fallback_url=url) for url in (None, BACKUP)),
    *(paused(reason, fallback_url=url) for reason in PauseReason for url in (None, BACKUP)),
]
LAST = delivery(step=2, attempt=2, target_attempt=2)
DELIVERIES_OWED = [
    each._replace(trigger=trigger)
    for trigger in Trigger
    for each in (delivery(), LAST, delivery().to_fallback(is_attempted=True), LAST.to_fallback(is_attempted=True))
]
RESPONSES = [Response(status, {}) for status in (200, 410, 500)]
# By the topic of what follows a record without an attempt.
MOVE_OF_TOPIC = {DELIVERIES: NextStep.FALLBACK, HELD: NextStep.HELD, DEAD_LETTERS: NextStep.DEAD}


async def move(known: Webhook | None, owed: Delivery, response: Response, *, late: bool) -> tuple[NextStep, State]:
    """What `deliver` does with a record, and the state that `record` computes of what was produced."""
    fixture = DeliverFixture(known, owed)
    for url in (URL, BACKUP):
        fixture.sender.responses(url, response)
    if late:
        fixture.clock.advance(13)
    await fixture.handle()
    assert fixture.kafka.topic(INVALID) == []
    produced = [
        (topic, CODEC.decode(record.value or b""))
        for topic in (ATTEMPTS, DELIVERIES, HELD, DEAD_LETTERS, retry_topic(Tier("30s")))
        for record in fixture.kafka.topic(topic)
        if record is not fixture.record
    ]
    values = [value for _, value in produced if isinstance(value, Attempt | Delivery | DeadLetter)]
    [state] = merge_records(RecordedValue(value, fixture.clock.now()) for value in values).delivery_states
    attempts = [value for value in values if isinstance(value, Attempt)]
    next_step = attempts[0].next_step if attempts else MOVE_OF_TOPIC[produced[0][0]]
    if next_step is NextStep.DEAD and owed.trigger is Trigger.TEST:
        next_step = NextStep.FAILED
    return next_step, state.state


def table(before: State, *causes: type[StrEnum]) -> set[tuple[StrEnum, State]]:
    return {
        (cause, then) for (state, cause), then in TRANSITIONS.items() if state is before and isinstance(cause, causes)
    }


async def test_deliver_makes_the_moves_of_the_table() -> None:
    cases = product(WEBHOOKS, DELIVERIES_OWED, RESPONSES, (False, True))
    moves = {await move(known, owed, response, late=late) for known, owed, response, late in cases}
    assert moves == table(State.WAITING, NextStep)


async def release(pipeline: Pipeline, choice: HeldChoice) -> State:
    """The state of a held delivery after its pause."""
    pipeline.sender.hangs(URL)
    await pipeline.register(paused())
    await pipeline.fan_out_events(event())
    await pipeline.enable(choice)
    await pipeline.release_held.cycle()
    await quiet()
    return pipeline.delivery_state().state


@pytest.mark.parametrize(("choice", "then"), sorted(table(State.HELD, HeldChoice)))
async def test_a_choice_moves_what_was_held(pipeline: Pipeline, choice: HeldChoice, then: State) -> None:
    assert await release(pipeline, choice) is then


async def test_what_cannot_be_released_moves_as_the_table_says(pipeline: Pipeline) -> None:
    await pipeline.register(paused())
    await pipeline.fan_out_events(event())
    pipeline.kafka.most_bytes[DELIVERIES] = 10
    await pipeline.enable()
    await pipeline.release_held.cycle()
    assert {(NextStep.DEAD, pipeline.delivery_state().state)} == table(State.HELD, NextStep)
