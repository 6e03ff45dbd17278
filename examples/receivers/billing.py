"""Billing: the launches of each client in each month, as lines of an invoice. A client is a dispatch.

Settings: WEBHOOK_SECRET, PORT, DATA_DIR, PRICE. `python billing.py 2026-04` prints a month's lines, as CSV.
"""

import csv
import sys
from datetime import UTC, datetime
from decimal import Decimal

from receiver import Event, database, serve, setting

TABLE = """CREATE TABLE IF NOT EXISTS launches (event_id TEXT PRIMARY KEY, month TEXT NOT NULL, client TEXT NOT NULL);
  CREATE INDEX IF NOT EXISTS launches_of ON launches (month, client);"""
LINES = "SELECT client, count(*) FROM launches WHERE month = ? GROUP BY client ORDER BY client"
NO_DISPATCH = "(none)"


class Launches:
    """Each launch once, in the calendar month of its event in UTC: the same count as GET /v1/usage."""

    def __init__(self) -> None:
        self._db = database("billing", TABLE)

    def count(self, event: Event) -> None:
        if event["type"] == "session.launched":
            at = datetime.fromisoformat(event["createdAt"]).astimezone(UTC)
            row = (event["id"], f"{at.year:04}-{at.month:02}", event["data"].get("dispatchId", NO_DISPATCH))
            self._db.execute("INSERT OR IGNORE INTO launches VALUES (?, ?, ?)", row)

    def print_invoice(self, month: str, price: Decimal) -> None:
        lines = csv.writer(sys.stdout)
        lines.writerow(("month", "client", "launches", "price", "amount"))
        for client, launches in self._db.execute(LINES, [month]):
            lines.writerow((month, client, launches, price, launches * price))


if __name__ == "__main__":
    price = setting("PRICE", Decimal, "the price of a launch, such as 0.25") if sys.argv[1:] else None
    launches = Launches()
    if price is None:
        serve(launches.count)
    else:
        launches.print_invoice(sys.argv[1], price)
