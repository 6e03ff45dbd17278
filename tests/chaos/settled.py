"""Whether all deliveries of a scenario are final."""

from typing import Any, Protocol

from chaos.checker import FINAL

# One statement, for one snapshot: between two statements a held delivery could be released.
SETTLED = """
    SELECT (SELECT count(*) FROM deliveries WHERE event_id LIKE %(events)s) = %(owed)s
       AND NOT EXISTS (
           SELECT FROM deliveries WHERE event_id LIKE %(events)s AND state != ALL(%(final)s)
       )
       -- Held deliveries of an active webhook will be released; those of an open pause will not.
       AND NOT EXISTS (
           SELECT FROM deliveries JOIN webhooks ON webhooks.id = deliveries.webhook_id
           LEFT JOIN pauses ON pauses.id = deliveries.pause_id
           WHERE state = 'held' AND status = 'active' AND (pauses.id IS NULL OR choice IS NOT NULL)
       )
       AND NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)
"""


class Connection(Protocol):
    """The part of a psycopg connection that is used here."""

    def execute(self, query: str, params: dict[str, Any]) -> Any: ...


def is_settled(connection: Connection, scenario_run: str, owed: int) -> bool:
    """Whether `owed` deliveries of the scenario are stored and can no longer change."""
    values = {"events": f"{scenario_run}:%", "owed": owed, "final": list(FINAL)}
    return bool(connection.execute(SETTLED, values).fetchone()[0])
