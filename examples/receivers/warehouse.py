"""Warehouse: one row for each event, in a table of DuckDB.

Settings: WEBHOOK_SECRET, PORT, and DATA_DIR, where the table is: `duckdb warehouse.duckdb 'FROM events'`.
"""

import json
from datetime import datetime

import duckdb
from receiver import EXISTING, Event, serve, setting

TABLE = """CREATE TABLE IF NOT EXISTS warehouse.events (
  id VARCHAR PRIMARY KEY, type VARCHAR NOT NULL, created_at TIMESTAMPTZ NOT NULL,
  session_id VARCHAR, package_id VARCHAR, dispatch_id VARCHAR, learner_id VARCHAR,
  completion_status VARCHAR, success_status VARCHAR, total_time VARCHAR,
  score_raw DOUBLE, score_min DOUBLE, score_max DOUBLE, score_scaled DOUBLE, data JSON NOT NULL)"""
# The order of a session's events: ORDER BY session_id, sequence.
SEQUENCE = "ALTER TABLE warehouse.events ADD COLUMN IF NOT EXISTS sequence BIGINT"
TEXTS = ("sessionId", "packageId", "dispatchId", "learnerId", "completionStatus", "successStatus", "totalTime")
SCORES = ("scoreRaw", "scoreMin", "scoreMax", "scoreScaled")
INSERT = f"INSERT OR IGNORE INTO warehouse.events VALUES ({', '.join('?' * 16)})"


class Warehouse:
    """The file is open only while a row is written: others may read it in between."""

    def __init__(self, path: str) -> None:
        quoted = path.replace("'", "''")
        self._attach = f"ATTACH '{quoted}' AS warehouse"
        self._db = duckdb.connect(config={"threads": 1})
        self._execute(TABLE, [])
        self._execute(SEQUENCE, [])

    def append(self, event: Event) -> None:
        data = event["data"]
        texts = [data.get(name) for name in TEXTS]
        scores = [float(data[name]) if name in data else None for name in SCORES]
        head = [event["id"], event["type"], datetime.fromisoformat(event["createdAt"])]
        self._execute(INSERT, [*head, *texts, *scores, json.dumps(data, ensure_ascii=False), data.get("sequence")])

    def _execute(self, statement: str, values: list[object]) -> None:
        self._db.execute(self._attach)
        try:
            self._db.execute(statement, values)
        finally:
            self._db.execute("DETACH warehouse")


if __name__ == "__main__":
    folder = setting("DATA_DIR", EXISTING, "an existing folder, to keep data in")
    serve(Warehouse(f"{folder}/warehouse.duckdb").append)
