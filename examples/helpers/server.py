"""A receiver that keeps completed sessions: `WEBHOOK_SECRET=whsec_… DATA_DIR=. PORT=9001 python3 server.py`."""

import os
import sqlite3
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import scorm_webhooks_receiver as receiver

SECRETS = os.environ["WEBHOOK_SECRET"].split(",")  # during a rotation: old,new
for one in SECRETS:
    receiver.key_of(one)  # a wrong secret stops the start
SCHEMA = "CREATE TABLE IF NOT EXISTS completed (session TEXT PRIMARY KEY, status TEXT, total_time TEXT)"
path = os.path.join(os.environ["DATA_DIR"], "receiver.sqlite")
repeats = receiver.SqliteRepeats(path)
sqlite3.connect(path).execute(SCHEMA)


def work_on(event: receiver.Event, database: sqlite3.Connection) -> None:
    """The work is in the transaction of the event's id. Types that this receiver does not know change nothing."""
    if receiver.is_known(event) and event["type"] == "session.completed":
        data = event["data"]
        row = (data["sessionId"], data["successStatus"], data["totalTime"])
        database.execute("INSERT OR REPLACE INTO completed VALUES (?, ?, ?)", row)


def respond(headers: dict[str, str], body: bytes) -> int:
    """The status of the response to a request."""
    try:
        receiver.verify_standard(headers, body, SECRETS)
        event = receiver.parse(body)
    except receiver.InvalidSignature:
        return 401
    except receiver.InvalidEvent:
        return 400
    if not event.get("test"):
        repeats.once(event["id"], partial(work_on, event))
    return 204


class Handler(BaseHTTPRequestHandler):
    """Reads a request of a known and limited length."""

    timeout = 30

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            self.send_response(411)
        elif int(length) > receiver.MAX_BODY_BYTES:
            self.send_response(413)
        else:
            self.send_response(respond(dict(self.headers), self.rfile.read(int(length))))
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
