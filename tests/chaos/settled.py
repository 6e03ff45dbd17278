"""Whether all that became of an act's events is final."""

from typing import Any, Protocol

from chaos.checker import FINAL

# One statement, so that all of it is of one moment: between two, what is held would have gone on.
SETTLED = """
    SELECT (SELECT count(*) FROM deliveries WHERE event_id LIKE %(events)s) = %(owed)s
       AND NOT EXISTS (
           SELECT FROM deliveries WHERE event_id LIKE %(events)s AND state != ALL(%(final)s)
       )
       -- What a webhook holds that can take it is on its way; of a pause that nobody ended nothing leaves.
       AND NOT EXISTS (
           SELECT FROM deliveries JOIN webhooks ON webhooks.id = deliveries.webhook_id
           LEFT JOIN pauses ON pauses.id = deliveries.pause_id
           WHERE state = 'held' AND status = 'active' AND (pauses.id IS NULL OR choice IS NOT NULL)
       )
       AND NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)
"""


class Connection(Protocol):
    """A psycopg connection, as far as it is used here."""

    def execute(self, query: str, params: dict[str, Any]) -> Any: ...


def is_settled(connection: Connection, scenario_run: str, owed: int) -> bool:
    """Whether `owed` deliveries of the act's events are known, and nothing can change them any more."""
    values = {"events": f"{scenario_run}:%", "owed": owed, "final": list(FINAL)}
    return bool(connection.execute(SETTLED, values).fetchone()[0])
