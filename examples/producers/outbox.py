"""A transactional outbox: an event is stored with the change that it tells of, and published until Kafka has it.

Run one beside your application: `python outbox.py app.db kafka:9092`. `KAFKA_CONFIG_SASL_PASSWORD` and so on set
Kafka's client, as they do for the server. A kill at any line loses no event. One that was
acknowledged and not yet removed is published again with the same id, and receivers see one event. An event that is
refused stays in the table, with the reason in its column `error`, and is a line on stderr.
"""

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from threading import Event as Flag
from typing import Any

from streams.producer import EventProducer, Invalid, Misconfigured, Unavailable

ROWS_AT_ONCE = 100
LOOK_EVERY_SECONDS = 0.2
PREFIX = "KAFKA_CONFIG_"


def open_database(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, event TEXT NOT NULL, error TEXT)")
    return database


def store(database: sqlite3.Connection, event: Mapping[str, Any]) -> None:
    """Store an event; call it within the transaction of the change. It needs an `id` of your own."""
    database.execute("INSERT INTO outbox (event) VALUES (?)", (json.dumps(event),))


def publish_stored(database: sqlite3.Connection, producer: EventProducer) -> int:
    """Publish the oldest events in order and remove those that Kafka has. Returns how many.

    Raises `Unavailable` or `Misconfigured` at the first one that Kafka did not take.
    """
    query = "SELECT number, event FROM outbox WHERE error IS NULL ORDER BY number LIMIT ?"
    rows = database.execute(query, (ROWS_AT_ONCE,)).fetchall()
    waiting = []
    for number, event in rows:
        fields = json.loads(event)
        try:
            waiting.append((number, producer.publish(fields)))
        except Invalid as error:
            # It would be refused each time, and stop all others. It stays for a person.
            print(f"refused: event {fields.get('id')} in row {number}: {error}", file=sys.stderr, flush=True)
            with database:
                database.execute("UPDATE outbox SET error = ? WHERE number = ?", (str(error), number))
    for number, future in waiting:
        future.result()
        with database:
            database.execute("DELETE FROM outbox WHERE number = ?", (number,))
    return len(rows)


def client_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """`KAFKA_CONFIG_SASL_USERNAME` is librdkafka's `sasl.username`."""
    names = {name: name.removeprefix(PREFIX).lower().replace("_", ".") for name in environ if name.startswith(PREFIX)}
    return {property_name: environ[name] for name, property_name in names.items()}


def main(path: str, servers: str, topic: str = "session-events") -> None:
    stop = Flag()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    database = open_database(path)
    with EventProducer(servers, topic=topic, properties=client_properties(os.environ)) as producer:
        while not stop.is_set():
            try:
                if publish_stored(database, producer) < ROWS_AT_ONCE:
                    stop.wait(LOOK_EVERY_SECONDS)
            except (Unavailable, Misconfigured) as error:
                print(f"waits: {error}", file=sys.stderr, flush=True)
                time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
