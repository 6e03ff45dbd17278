"""Verify a request, store its event, respond; then work, from the inbox. A crash may repeat work, but loses none."""

import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

Event = dict[str, Any]
MAX_BODY = 1024 * 1024
EXISTING = partial(os.path.realpath, strict=True)  # the path of a file or folder that exists
INBOX = """CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, body, done_at, error, failures DEFAULT 0,
  due_at DEFAULT 0); CREATE INDEX IF NOT EXISTS inbox_due ON inbox (due_at) WHERE done_at IS NULL;"""
NOTE = "UPDATE inbox SET (done_at, error, failures, due_at) = (?, ?, ?, ?) WHERE id = ?"
NEXT = "SELECT id, body, failures FROM inbox WHERE done_at IS NULL AND due_at <= ? ORDER BY due_at, rowid LIMIT 1"


def setting(name: str, parse: Callable[[str], Any], meaning: str) -> Any:
    """Read a setting from the environment. Without a valid value the program ends with one line."""
    text = os.environ.get(name, "")
    try:
        return parse(text) if text else sys.exit(f"error: {name} must be {meaning} (not set)")
    except Exception:
        sys.exit(f"error: {name} must be {meaning} (not valid)")


def database(name: str, schema: str) -> sqlite3.Connection:
    """Open a database in DATA_DIR. A statement is durable when it returns; threads may share the connection."""
    folder = setting("DATA_DIR", EXISTING, "an existing folder, to keep data in")
    db = sqlite3.connect(f"{folder}/{name}.sqlite", isolation_level=None, check_same_thread=False, timeout=30)
    db.executescript(f"PRAGMA journal_mode = WAL; {schema}")
    return db


def work_on_next(inbox: sqlite3.Connection, work: Callable[[Event], object]) -> bool:
    """Work on the next event; False when none is due. Work that fails is due again later, in an hour at most."""
    for event_id, body, failures in inbox.execute(NEXT, [time.time()]).fetchall():
        try:
            work(json.loads(body))
            result: tuple[object, ...] = (time.time(), None, failures, 0)
        except Exception as error:
            logging.getLogger("uvicorn.error").warning("%s: the work failed (%s)", event_id, type(error).__name__)
            result = (None, repr(error), failures + 1, time.time() + min(2**failures, 3600))
        inbox.execute(NOTE, (*result, event_id))
        return True
    return False


async def read_body(request: Request) -> bytes | None:
    """The body; None if it is larger than MAX_BODY, then the rest is not read."""
    body = b""
    if int(request.headers.get("content-length", 0)) > MAX_BODY:
        return None
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def serve(work: Callable[[Event], object], check: Callable[[], object] = lambda: None) -> None:
    """Receive on a thread until a signal, and work on one event after the other; `check` runs when none is due."""
    verifier = setting("WEBHOOK_SECRET", Webhook, "the webhook's signing secret")
    port = setting("PORT", int, "the port to listen on")
    inbox, app, stopping = database("inbox", INBOX), FastAPI(openapi_url=None), threading.Event()

    @app.post("/")
    async def receive(request: Request) -> Response:
        if (body := await read_body(request)) is None:
            return Response(status_code=413, headers={"Connection": "close"})
        try:
            event: Event = verifier.verify(body, dict(request.headers))
        except (WebhookVerificationError, ValueError):
            return Response("The signature is not valid.", status_code=401)
        if not event.get("test"):
            inbox.execute("INSERT OR IGNORE INTO inbox (id, body) VALUES (?, ?)", (event["id"], body))
        return Response(status_code=204)

    (server := threading.Thread(target=lambda: uvicorn.run(app, port=port, access_log=False), daemon=True)).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    while server.is_alive() and not stopping.is_set():
        if not work_on_next(inbox, work):
            check()
            stopping.wait(0.1)
