"""Each filter that the API offers is answered by an index, and not by reading an account's every delivery."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore
from streams.adapters.sql.delivery_log import matching
from streams.adapters.sql.pages import newest_first
from streams.adapters.sql.tables import deliveries
from streams.core.account import DeliveryFilter
from streams.core.delivery import State
from streams.core.page import Cursor
from streams.core.standing import Fact, fold

FILTERS: dict[str, dict[str, Any]] = {
    "ix_deliveries_account_id_first_seen_at_id": {},
    "ix_deliveries_webhook_id_first_seen_at_id": {"webhook_id": "wh_7"},
    "ix_deliveries_account_id_event_id": {"event_id": "evt_7"},
    "ix_deliveries_account_id_event_type_first_seen_at_id": {"event_type": "session.scored"},
    r"ix_deliveries_(account|webhook)_state": {"state": State.DEAD},
    "ix_deliveries_webhook_state": {"state": State.DEAD, "webhook_id": "wh_7"},
}


def fact(number: int) -> Fact:
    """One in fifty is dead, one in fifty is of each webhook, one in a hundred is scored."""
    owed = delivery(
        event_id=f"evt_{number}",
        webhook_id=f"wh_{number % 50}",
        first_seen_at=NOON + timedelta(seconds=number),
        event_type="session.completed" if number % 100 else "session.scored",
    )
    done = attempt(event_id=owed.event_id, webhook_id=owed.webhook_id, event_type=owed.event_type)
    return Fact(done._replace(first_seen_at=owed.first_seen_at) if number % 49 else dead_letter(delivery=owed), NOON)


@pytest.mark.parametrize(("index", "wanted"), FILTERS.items())
async def test_a_filter_has_its_index(database: SqlStore, index: str, wanted: dict[str, Any]) -> None:
    await database.recorder.record(fold([fact(number) for number in range(5000)]))
    after = Cursor(NOON + timedelta(days=1), "zzz")
    query = select(deliveries).where(*matching(DeliveryFilter(account_id="acme", **wanted)))
    query = newest_first(query, deliveries.c.first_seen_at, deliveries.c.id, after, 50)
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if database.database.is_sqlite else "EXPLAIN"
        plan = " ".join(str(row) for row in await connection.exec_driver_sql(f"{explain} {compiled}"))
    assert re.search(index, plan), plan
