"""What a person or an erasure does to a delivery in SQL moves it as the table of its state machine says."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from builders import NOON
from contract.learners import ADA, learners, of_learner
from contract.stores import SqlStore, publish_all
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.sql.tables.deliveries import deliveries
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import HoldReason, State, Trigger
from streams.core.deliveries.delivery_moves import TRANSITIONS, Action
from streams.core.deliveries.delivery_state import Batch, recorded_event, state_of_record
from streams.core.webhooks.webhook import Registration
from streams.features.pulls.service import PullService
from streams.features.pulls.storage import SqlPulls


async def record_one_of_each_state(database: SqlStore) -> dict[str, State]:
    """Each delivery's state, by its id."""
    owed = {state: of_learner(number) for number, state in enumerate(State, 1)}
    owed[State.FAILED] = owed[State.FAILED]._replace(trigger=Trigger.TEST)
    rows = [state_of_record(each, NOON)._replace(state=state, due_at=None) for state, each in owed.items()]
    events = {(each.account_id, each.event_id): recorded_event(each) for each in owed.values()}
    await database.recorder.record(Batch(rows, (), events))
    return {each.id: state for state, each in owed.items()}


async def act(database: SqlStore, what: Action) -> None:
    everything = DeliveryFilter("acme", limit=10)
    if what is Action.REPLAY:
        await database.replays.replay(everything)
    elif what is Action.DISCARD:
        await database.replays.discard(everything)
    elif what is Action.ACKNOWLEDGE:
        await acknowledge_all(database)
    else:
        service = learners(database)
        await service.finish(await service.start("acme", ADA, actor="key:key_1"))


async def acknowledge_all(database: SqlStore) -> None:
    """Acknowledge every delivery after a reader pulled what is held."""

    def to_pull(known: Registration) -> Registration:
        return replace(known, webhook=replace(known.webhook, url=""))

    await database.webhooks.change("wh_crm", to_pull)
    async with database.database.transaction() as connection:
        held = update(deliveries).where(deliveries.c.state == State.HELD)
        await connection.execute(held.values(reason=HoldReason.PULL, due_at=NOON))
    encryption = FakeEncryption()
    pulls = PullService(
        *(
            SqlPulls(database.database, encryption, database.clock),
            database.webhooks,
            database.recorder,
            encryption,
            database.clock,
        ),
        *(FakeTelemetry(), "X-Signature"),
    )
    await pulls.pull("wh_crm", 10, 60, "acme")
    rows = (await database.delivery_log.list(DeliveryFilter("acme"))).rows
    await pulls.acknowledge("wh_crm", [row.delivery_id for row in rows], "acme")


@pytest.mark.parametrize("what", Action)
async def test_an_act_moves_each_state_as_the_table_says(database: SqlStore, what: Action) -> None:
    await publish_all(database)
    before = await record_one_of_each_state(database)
    await act(database, what)
    after = {row.delivery_id: row.state for row in (await database.delivery_log.list(DeliveryFilter("acme"))).rows}
    assert after == {name: TRANSITIONS.get((state, what), state) for name, state in before.items()}
