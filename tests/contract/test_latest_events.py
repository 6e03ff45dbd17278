"""The latest events of an account, which a person compares with a filter."""

import re
from datetime import timedelta

from sqlalchemy import text

from builders import NOON, delivery, event
from contract.stores import SqlStore
from contract.test_indexes import plans
from streams.core.deliveries.delivery import Trigger
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.events.event import render
from streams.features.webhooks.latest_events import MAX_EVENTS, SqlLatestEvents


def recorded(number: int, **changes: object) -> list[RecordedValue]:
    """An event with two deliveries."""
    one = event(id=f"evt_{number:05}")
    return [
        RecordedValue(
            delivery(
                event_id=one.id,
                webhook_id=webhook_id,
                body=render(one),
                first_seen_at=NOON + timedelta(seconds=number),
                **changes,
            ),
            NOON,
        )
        for webhook_id in ("wh_a", "wh_b")
    ]


async def test_the_newest_events_of_an_account_come_once(database: SqlStore) -> None:
    values = [value for number in range(MAX_EVENTS + 5) for value in recorded(number)]
    values += recorded(90, account_id="globex") + recorded(91, trigger=Trigger.TEST)
    await database.recorder.record(merge_records(values))
    bodies = await SqlLatestEvents(database.database).bodies("acme")
    assert bodies == [render(event(id=f"evt_{number:05}")) for number in range(MAX_EVENTS + 4, 4, -1)]


async def test_they_are_found_by_an_index(database: SqlStore) -> None:
    await database.recorder.record(merge_records([value for number in range(4000) for value in recorded(number)]))
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    with plans(database, "events.body") as found:
        await SqlLatestEvents(database.database).bodies("acme")
    (plan,) = found
    assert re.search("ix_deliveries_account_id_first_seen_at_id", plan), plan
    assert not re.search(r"SCAN (events|deliveries)\b(?! USING INDEX)|Seq Scan on (events|deliveries)", plan), plan
