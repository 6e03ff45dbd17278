"""Fill the tables with deliveries that are older than their retention, by COPY."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

TABLES = ("events", "deliveries", "attempts")
AGE = timedelta(days=40)
_COLUMNS = {
    "events": "account_id, event_id, first_seen_at, body, hash, session_id, learner_id, package_id, dispatch_id",
    "deliveries": "id, account_id, event_id, event_type, webhook_id, trigger, first_seen_at, generation, step, state,"
    " attempts, target, changed_at, message, target_attempt",
    "attempts": "id, delivery_id, webhook_id, generation, number, trigger, target, url, started_at, ended_at,"
    " request_headers, status, response_headers, response_body, outcome, message, next_step, webhook_version",
}
_LINES_AT_ONCE = 1000
_EVENT = json.dumps({"type": "session.scored", "data": {"title": "x" * 430}}).encode()
_BODY, _HASH = "\\\\x" + _EVENT.hex(), "\\\\x" + hashlib.sha256(_EVENT).hexdigest()
_HEADERS = json.dumps({"content-type": "application/json", "webhook-id": "evt_1", "webhook-timestamp": "1775822400"})


def fill(url: str, owners: Sequence[tuple[str, str]], count: int) -> None:
    """Add `count` delivered deliveries, with an event and an attempt each, of these accounts and webhooks in turn."""
    begin = datetime.now(UTC) - AGE
    with psycopg.connect(url) as connection:
        for table in TABLES:
            statement = f"COPY {table} ({_COLUMNS[table]}) FROM STDIN"
            with connection.cursor().copy(statement.encode()) as copy:
                for chunk in _chunks(table, owners, count, begin):
                    copy.write(chunk)


def _chunks(table: str, owners: Sequence[tuple[str, str]], count: int, begin: datetime) -> Iterator[str]:
    for start in range(0, count, _LINES_AT_ONCE):
        numbers = range(start, min(start + _LINES_AT_ONCE, count))
        yield "".join(_line(table, number, owners[number % len(owners)], begin) for number in numbers)


def _line(table: str, number: int, owner: tuple[str, str], begin: datetime) -> str:
    account_id, webhook_id = owner
    event_id, at = f"old_{number}", (begin + timedelta(milliseconds=number)).isoformat()
    delivery_id = hashlib.md5(event_id.encode()).hexdigest()
    values: tuple[object, ...]
    if table == "events":
        subjects = (f"sess_{number // 3}", f"learner-{number % 50_000}", f"pkg_{number % 200}", "\\N")
        values = (account_id, event_id, at, _BODY, _HASH, *subjects)
    elif table == "deliveries":
        of_event = (delivery_id, account_id, event_id, "session.scored", webhook_id, "event", at)
        values = (*of_event, 1, 2, "delivered", 1, "primary", at, "The endpoint responded with 200.", 1)
    else:
        name = hashlib.md5(delivery_id.encode()).hexdigest()
        request = (1, 1, "event", "primary", "https://example.com/hooks", at, at, _HEADERS)
        response = (200, _HEADERS, "ok", "delivered", "The endpoint responded with 200.", "done", 1)
        values = (name, delivery_id, webhook_id, *request, *response)
    return "\t".join(map(str, values)) + "\n"
